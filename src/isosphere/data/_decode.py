"""From the bytes of a file to an upright RGB picture, or to one sentence on why not."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from PIL import Image, ImageFile

from . import _picture
from ._limits import EMPTY, MAX_PIXELS, UnreadableImageError, read_file, reason_of, require_pixels
from ._numbers import Numbers
from ._unknown import HEIF_IS_READ, HEIF_SUFFIXES, described, misread

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for kinds in ("jpg jpeg jpe jfif jp2", "png gif webp avif", "tif tiff bmp dib", "ppm pgm pbm pnm")
    for suffix in kinds.split()
) | (HEIF_SUFFIXES if HEIF_IS_READ else frozenset())
# Pillow reads far more (PostScript runs Ghostscript); a training set needs no more than these.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")


def _known_formats() -> list[str]:
    Image.init()
    if HEIF_IS_READ and "HEIF" not in Image.OPEN:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]

        register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]


def _quiet():
    # Filters of warnings are shared by all threads: only the main thread may change them. Callers that decode
    # in threads silence Pillow's remarks on broken metadata around the whole pool.
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return warnings.catch_warnings(action="ignore")


def decode(file: Path | bytes, *, at_least: int | None = None, white: float | None = None) -> Image.Image:
    """Decode the first frame of an image file as an upright 8-bit RGB picture.

    EXIF orientation is applied, transparency is laid over white (over black where nothing would be seen on white), and
    grey of 16 bits, 32 bits or floats is divided by ``white``: None for 65535, of floats for 1 or 255. With
    ``at_least``, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as the short side keeps that many pixels.

    Raises: UnreadableImageError, whatever is wrong with the file.
    """
    with _opened(file if isinstance(file, bytes) else read_file(file)) as image:
        if at_least is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (at_least, at_least))
        return _upright_rgb(image, white, ours=True)


def dimensions(body: bytes) -> tuple[int, int]:
    """Width and height of an image file as it is stored, EXIF aside; not decoded. Raises: UnreadableImageError."""
    with _opened(body) as image:
        return image.size


def numbers(body: bytes) -> Numbers:
    """What an image file holds; of 8 bits it is not decoded. Raises: UnreadableImageError."""
    with _opened(body) as image:
        if reason := misread(image):
            raise UnreadableImageError(reason)
        return Numbers.of(image)


@contextmanager
def _opened(body: bytes) -> Iterator[Image.Image]:
    """Within the block an image file is open. Raises: UnreadableImageError, whatever goes wrong there."""
    if not body:
        raise UnreadableImageError(EMPTY)
    try:
        with _quiet(), Image.open(io.BytesIO(body), formats=_known_formats()) as image:
            require_pixels(*image.size)
            yield image
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError as error:
        unread = "not an image in a format that is read here, or damaged at its start"
        raise UnreadableImageError(described(body) or unread) from error
    except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
        raise UnreadableImageError(_reason(error)) from error


def upright_rgb(
    image: Image.Image, *, at_least: int | None = None, white: float | None = None
) -> Image.Image:
    """A picture that PIL has opened as upright 8-bit RGB, as `decode` does it. Raises: UnreadableImageError."""
    try:
        require_pixels(*image.size)
        if at_least is not None and (body := undecoded(image)):
            return decode(body, at_least=at_least, white=white)
        return _upright_rgb(image, white, ours=False)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def undecoded(image: Image.Image) -> bytes | None:
    """The file of a JPEG that has been opened and not decoded: it can still be had at 1/2, 1/4 or 1/8 of its size."""
    stream = getattr(image, "fp", None)
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("JPEG", "MPO"):
        return None
    if not image.tile or image.tell() or stream is None:
        return None
    with suppress(OSError, ValueError):
        before = stream.tell()
        stream.seek(0)
        body = stream.read()
        stream.seek(before)
        return body
    return None


def _upright_rgb(image: Image.Image, white: float | None, *, ours: bool) -> Image.Image:
    if reason := misread(image):
        raise UnreadableImageError(reason)
    return _picture.upright_rgb(image, white=white, in_place=ours)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS:,} pixels that are decoded"
    return reason_of(error)
