"""How much is read at most, and of what: sizes are looked at before anything is read or unpacked."""

import stat
from pathlib import Path

from isosphere.devices import host_memory

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded, unless another limit is given: that of Pillow (half a gigabyte as RGB)."""

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read, after unpacking when it lies in an archive; and largest image of an array."""

_MOST_PACKED = 1032
"""Deflate makes at most so many bytes of one: what promises more is not all there."""

EMPTY = "the file is empty"


class UnreadableImageError(OSError):
    """One image cannot be used; the message is the reason, without the name of the file."""


def reason_of(error: BaseException) -> str:
    """An exception of somebody else's reader in a few words, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, MemoryError):
        return "memory does not suffice to read it"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def require_fitting(size: int) -> None:
    """Refuse an image of too many bytes before they are read. Raises: UnreadableImageError."""
    if size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"it has {size:,} bytes, more than {MAX_FILE_BYTES:,}")


def require_pixels(width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Refuse a picture of too many pixels before it is decoded. Raises: UnreadableImageError."""
    if width * height > most:
        raise UnreadableImageError(f"{width} x {height} pixels: more than the {most:,} that are decoded")


def require_stored(count: int, size: int, stored: int) -> None:
    """Refuse ``count`` images of ``size`` bytes together that cannot come from so many stored bytes.

    Raises: ValueError.
    """
    if size > stored * _MOST_PACKED + (1 << 20) or count > stored + 100_000:
        raise ValueError(
            f"it promises {count:,} images, {size:,} bytes, and stores {stored:,} bytes: it was not written to its end"
        )


def require_memory(size: int) -> None:
    """Refuse arrays that are larger than the machine's memory. Raises: ValueError."""
    memory = host_memory()
    if memory is not None and size > memory:
        raise ValueError(
            f"its images take {size / 2**30:,.0f} GiB, more than this machine's memory; in an HDF5 file, a zip or a "
            "folder they are read as they are needed"
        )


def read_file(path: Path) -> bytes:
    """The bytes of an image file. Raises: UnreadableImageError."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise UnreadableImageError("it is a directory")
        if not stat.S_ISREG(found.st_mode):  # a pipe could be waited for, and a device read, for ever
            raise UnreadableImageError("it is a device or a pipe, and no file")
        require_fitting(found.st_size)
        with path.open("rb") as stream:  # some files of the system state no size, and never end
            body = stream.read(MAX_FILE_BYTES + 1)
    except UnreadableImageError:
        raise
    except (OSError, MemoryError, ValueError) as error:  # ValueError: a null byte in the path
        raise UnreadableImageError(reason_of(error)) from error
    require_fitting(len(body))
    return body


def read_text(file: Path, *, errors: str = "strict") -> str:
    """The text of a file in UTF-8, such as a list of classes. Raises: UnreadableImageError, UnicodeDecodeError."""
    return read_file(file).decode("utf-8-sig", errors)
