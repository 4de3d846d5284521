"""From the bytes of a file to an upright picture, or to one sentence on why not."""

import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile
from torch import Tensor

from isosphere.errors import option, plural

from . import _jpeg, _picture
from ._about import About
from ._limits import EMPTY, MAX_PIXELS, UnreadableImageError, read_file, reason_of, require_pixels
from ._numbers import Numbers
from ._opening import USUAL, Opening
from ._picture import Channels, bands_of_tiff, bytes_of, taken, tiff_tags
from ._pixels import Picture, to_tensor
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


def decode(
    file: Path | bytes,
    *,
    at_least: int | None = None,
    white: float | None = None,
    opening: Opening = USUAL,
    channels: Channels | None = None,
) -> Picture:
    """Decode an image file as an upright picture of 8 bits: RGB unless ``channels`` are others, or a TIFF has other
    bands than colours; of several pages the first, or that of ``opening``.

    EXIF orientation is applied, transparency is laid over white (over black where nothing would be seen on white), and
    numbers of 16 bits, 32 bits or floats are divided by ``white``: None for 65535, of floats for 1 or 255. With
    ``at_least``, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as the short side keeps that many pixels;
    one of more than ``opening.max_pixels`` is decoded at the first of these that has no more.

    Raises: UnreadableImageError, whatever is wrong with the file.
    """
    body, most = file if isinstance(file, bytes) else read_file(file), opening.max_pixels or MAX_PIXELS
    if not (channels and channels.colour == "rgba") and (values := _bands(body, opening)) is not None:
        try:
            return taken(bytes_of(values, white), channels)
        except ValueError as error:
            raise UnreadableImageError(str(error)) from error
    with _opened(body, opening) as image:
        _draft(image, at_least, most)
        require_pixels(*image.size, most)
        return _upright(image, white, opening, channels, ours=True)


def decode_tensor(
    body: bytes,
    *,
    at_least: int | None = None,
    white: float | None = None,
    opening: Opening = USUAL,
    channels: Channels | None = None,
) -> Tensor:
    """The bits of `decode`, uint8 (channels, h, w); those of a plain JPEG sooner. Raises: UnreadableImageError."""
    if channels in (None, Channels("rgb")) and _jpeg.is_jpeg(body):
        with _opened(body, opening) as image:
            small = math.prod(image.size) <= (opening.max_pixels or MAX_PIXELS)
            found = _jpeg.by_torchvision(body) if small and _jpeg.is_plain(image, at_least) else None
        if found is not None:
            return found
    return to_tensor(decode(body, at_least=at_least, white=white, opening=opening, channels=channels))


def _draft(image: Image.Image, at_least: int | None, most: int) -> None:
    """Let a JPEG be decoded smaller: above ``at_least`` pixels a side, but in all no more than ``most``."""
    if image.format not in ("JPEG", "MPO"):
        return
    width, height = image.size
    part = next((k for k in (1, 2, 4) if -(-width // k) * -(-height // k) <= most), 8)
    if at_least is not None or part > 1:
        image.draft(None, tuple(min(at_least or side, side // part) or 1 for side in (width, height)))  # type: ignore[arg-type]


def dimensions(body: bytes, opening: Opening = USUAL) -> tuple[int, int]:
    """Width and height of an image file as it is stored, EXIF aside; not decoded. Raises: UnreadableImageError."""
    with suppress(UnreadableImageError), _opened(body, opening) as image:
        return image.size
    try:  # a TIFF of bands
        tags = tiff_tags(body)
        return int(tags[256]), int(tags[257])
    except Exception:
        with _opened(body, opening) as image:
            return image.size


def about(body: bytes, opening: Opening = USUAL) -> About:
    """What is told of an image file before it is decoded. Raises: UnreadableImageError."""
    try:
        with _opened(body, opening) as image:
            return about_picture(image)
    except UnreadableImageError:  # a TIFF of bands
        sides = dimensions(body, opening)
        return About(*sides, tiff_tags(body).get(ExifTags.Base.Orientation, 1) != 1)


def about_picture(image: Image.Image) -> About:
    """What is told of a picture that PIL has opened before it is decoded."""
    # A PNG that does not say it at its start would be decoded for it.
    exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
    clear = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    return About(*image.size, exif.get(ExifTags.Base.Orientation, 1) != 1, clear, pages)


def stored(body: bytes, opening: Opening = USUAL) -> Image.Image:
    """An image file as programs show it that look at nothing but its pixels: not turned, the high bytes of numbers,
    the colours that lie under transparency. Raises: UnreadableImageError.
    """
    with _opened(body, opening) as image:
        _draft(image, None, opening.max_pixels or MAX_PIXELS)
        require_pixels(*image.size, opening.max_pixels or MAX_PIXELS)
        image.load()
        if not (image.mode.startswith("I;16") or image.mode in ("I", "F")):
            return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        shown = values if image.mode == "F" else values / 256
        return Image.fromarray(np.clip(shown, 0, 255).astype(np.uint8)).convert("RGB")


def numbers(body: bytes, opening: Opening = USUAL) -> Numbers:
    """What an image file holds; of 8 bits it is not decoded. Raises: UnreadableImageError."""
    if (values := _bands(body, opening)) is not None:
        return Numbers.of(values)
    with _opened(body, opening) as image:
        if image.format not in ("JPEG", "MPO"):
            require_pixels(*image.size, opening.max_pixels or MAX_PIXELS)
        if reason := misread(image):
            raise UnreadableImageError(reason)
        return Numbers.of(image)


def _open(body: bytes) -> Image.Image:
    """As `Image.open`, but for its limit: ours is the caller's. Raises: UnidentifiedImageError, and others."""
    for name in _known_formats():
        factory, accept = Image.OPEN[name]
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not of this format after all
            if accept is None or accept(body[:16]) is True:
                return factory(io.BytesIO(body), "")
    raise Image.UnidentifiedImageError("of no format that is read here")


def _bands(body: bytes, opening: Opening) -> NDArray[np.generic] | None:
    """The numbers of a TIFF of bands, (h, w, bands); None of other files. Raises: UnreadableImageError."""
    most = opening.max_pixels or MAX_PIXELS
    try:
        return bands_of_tiff(body, opening.page, lambda width, height: require_pixels(width, height, most))
    except ValueError as error:
        raise UnreadableImageError(str(error)) from error


@contextmanager
def _opened(body: bytes, opening: Opening) -> Iterator[Image.Image]:
    """Within the block the page of an image file is open. Raises: UnreadableImageError, whatever goes wrong there."""
    if not body:
        raise UnreadableImageError(EMPTY)
    try:
        with _quiet(), _open(body) as image:
            _turn_to(image, opening.page)
            yield image
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError as error:
        unread = "not an image in a format that is read here, or damaged at its start"
        raise UnreadableImageError(described(body) or unread) from error
    except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
        raise UnreadableImageError(_reason(error)) from error


def _turn_to(image: Image.Image, page: int) -> None:
    if page == 1:
        return
    try:
        image.seek(page - 1)
    except EOFError:
        found = getattr(image, "n_frames", 1)
        raise UnreadableImageError(
            f"it has {plural(found, 'page')}, and page {page} is asked for ({option('data.page', page)})"
        ) from None


def upright(
    image: Image.Image,
    *,
    at_least: int | None = None,
    white: float | None = None,
    opening: Opening = USUAL,
    channels: Channels | None = None,
) -> Picture:
    """A picture that PIL has opened as an upright one of 8 bits, as `decode` does it; of several pages the one that it
    is at.

    Raises: UnreadableImageError.
    """
    try:
        require_pixels(*image.size, opening.max_pixels or MAX_PIXELS)
        if at_least is not None and (body := undecoded(image)):
            return decode(body, at_least=at_least, white=white, opening=opening, channels=channels)
        return _upright(image, white, opening, channels, ours=False)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def undecoded(image: Image.Image) -> bytes | None:
    """The file of a picture that has been opened and not decoded, and of which more can be had than Pillow decodes: a
    JPEG at 1/2, 1/4 or 1/8 of its size, colours of 16 bits, the bands of a TIFF.
    """
    stream = getattr(image, "fp", None)
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.tell() or stream is None:
        return None
    bands = _picture.banded(getattr(image, "tag_v2", {}))
    if image.format not in ("JPEG", "MPO") and not bands and not _picture.other_bytes(image):
        return None
    with suppress(OSError, ValueError):
        before = stream.tell()
        stream.seek(0)
        body = stream.read()
        stream.seek(before)
        return body
    return None


def _upright(
    image: Image.Image, white: float | None, opening: Opening, channels: Channels | None, *, ours: bool
) -> Picture:
    if reason := misread(image):
        raise UnreadableImageError(reason)
    return _picture.upright(image, white=white, ground=opening.ground, channels=channels, in_place=ours)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS:,} pixels that are decoded"
    return reason_of(error)
