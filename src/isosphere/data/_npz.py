"""Images in an .npz or .npy file of numpy."""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError

from ._arrays import ArraySource, is_one_picture, require_images
from ._layout import no_test_part
from ._limits import MAX_FILE_BYTES, reason_of, require_memory, require_stored
from ._named_arrays import name_arrays
from ._source import Split


def open_array_file(file: Path, *, split: Split = None) -> ArraySource:
    """Open the images of an .npz, or of an .npy that holds one array of them; pickles are never loaded.

    Names that are understood: those of `name_arrays`. Labels are integers or text, negative or absent for none. What a
    file says of its arrays is compared with its size before they are read.

    Raises: UsageError if the file, its names, shapes or numbers are something else.
    """
    try:
        if file.suffix.lower() != ".npy":
            return _open_npz(file, split)
        if split == "test":
            raise no_test_part(str(file))
        return ArraySource(_open_npy(file), name=file.stem)
    except UsageError:
        raise
    except Exception as error:  # numpy's and zipfile's readers raise nearly anything on a damaged file
        raise UsageError(
            f"{file} cannot be used: {reason_of(error)}. Write it with numpy.savez(FILE, x_train=IMAGES)."
        ) from error


@dataclass(frozen=True)
class _Header:
    """What a file says of an array, the bytes that these numbers take, and the bytes that are stored of them."""

    shape: tuple[int, ...]
    dtype: np.dtype
    size: int
    stored: int

    def require_images(self, name: str) -> None:
        require_images(f"{name} has", self.shape, self.dtype)
        require_stored(self.shape[0], self.size, self.stored)


def _header(stream: IO[bytes], length: int, stored: int) -> _Header:
    """Read the header of an array of which ``length`` bytes are there, header included."""
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
    except Exception as error:  # words that Python cannot parse, in many ways
        raise ValueError("it is damaged at the header of an array") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which can run code")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > length - stream.tell():
        raise ValueError(f"it is damaged: an array of shape {shape} and {dtype} is not all there")
    return _Header(shape, dtype, size, stored)


def _open_npy(file: Path) -> NDArray:
    length = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(2) == b"PK":
            raise ValueError("it is an .npz by its content: rename it")
        stream.seek(0)
        header = _header(stream, length, length)
    require_memory(header.size)
    images = np.load(file, allow_pickle=False)
    return images[None] if is_one_picture(images.shape) else images


def _headers(file: Path) -> dict[str, _Header]:
    """What an .npz says of its arrays, without reading their numbers."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    header = _header(stream, member.file_size, member.compress_size)
                found[member.filename.removesuffix(".npy")] = header
    return found


def _open_npz(file: Path, split: Split) -> ArraySource:
    headers = _headers(file)

    def facts(name: str) -> NDArray:
        if headers[name].size > MAX_FILE_BYTES:
            raise ValueError(f"{name} has {headers[name].size:,} bytes; expected one label for each image")
        return arrays[name]

    with np.load(file, allow_pickle=False) as arrays:
        try:
            found = name_arrays({n: h.shape for n, h in headers.items()}, facts, split, str(file))
        except ValueError as error:
            hint = ". Decode its JPEG bodies to plain arrays first" if "jpeg_header" in headers else ""
            raise ValueError(f"{error}{hint}") from error
        for name in found.counts:
            headers[name].require_images(name)
        require_memory(sum(headers[name].size for name in found.counts))
        images = [arrays[name] for name in found.counts]
    pixels = images[0] if len(images) == 1 else np.concatenate(images)
    return ArraySource(pixels, name=file.stem, **found.facts())
