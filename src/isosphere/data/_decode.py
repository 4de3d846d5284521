"""From the bytes of a file to an upright RGB picture, or to one sentence on why not."""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ._limits import EMPTY, MAX_PIXELS, UnreadableImageError, read_file, reason_of, require_pixels
from ._transparency import ground_under
from ._unknown import HEIF_IS_READ, HEIF_SUFFIXES, described, misread, white_is_zero

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for kinds in ("jpg jpeg jpe jfif jp2", "png gif webp avif", "tif tiff bmp dib", "ppm pgm pbm pnm")
    for suffix in kinds.split()
) | (HEIF_SUFFIXES if HEIF_IS_READ else frozenset())
# Pillow reads far more (PostScript runs Ghostscript); a training set needs no more than these.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")

PIXELS = 2
"""Which pixels a file becomes: raised where they change, so that what is kept of other pixels is not taken for them."""

_STRIP = 1 << 20
"""Pixels that are converted at a time: the largest pictures take no more than their own memory and that as RGB."""


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


def decode(file: Path | bytes, *, at_least: int | None = None) -> Image.Image:
    """Decode the first frame of an image file as an upright 8-bit RGB picture.

    EXIF orientation is applied, transparency is laid over white (over black where nothing would be seen on white),
    16-bit grey is divided by 257, and floats in [0, 1] or [0, 255] are accepted. With ``at_least``, a JPEG may be
    decoded at 1/2, 1/4 or 1/8 of its size as long as the short side keeps that many pixels.

    Raises: UnreadableImageError, whatever is wrong with the file.
    """
    body = file if isinstance(file, bytes) else read_file(file)
    if not body:
        raise UnreadableImageError(EMPTY)
    try:
        with _quiet(), Image.open(io.BytesIO(body), formats=_known_formats()) as image:
            require_pixels(*image.size)
            if at_least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (at_least, at_least))
            return _upright_rgb(image, ours=True)
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError as error:
        unread = "not an image in a format that is read here, or damaged at its start"
        raise UnreadableImageError(described(body) or unread) from error
    except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
        raise UnreadableImageError(_reason(error)) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture that PIL has opened as upright 8-bit RGB, as `decode` does it. Raises: UnreadableImageError."""
    try:
        require_pixels(*image.size)
        return _upright_rgb(image, ours=False)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def _upright_rgb(image: Image.Image, *, ours: bool) -> Image.Image:
    if reason := misread(image):
        raise UnreadableImageError(reason)
    negative = white_is_zero(image)
    image.load()
    return _to_rgb(_upright(image, in_place=ours), negative)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS:,} pixels that are decoded"
    return reason_of(error)


def _upright(image: Image.Image, *, in_place: bool) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
        return ImageOps.exif_transpose(image, in_place=in_place) or image
    except Exception:  # damaged metadata beside sound pixels: keep the picture as it lies
        return image


def _to_rgb(image: Image.Image, negative: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _grey_of_numbers(image, negative)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        plain = image.mode == "RGBA" and "transparency" not in image.info
        return _over_ground(image if plain else image.convert("RGBA"))
    return image.convert("RGB")


def _over_ground(colour: Image.Image) -> Image.Image:
    ground = (ground_under(piece for piece, _ in _strips(colour)),) * 3 + (255,)
    return _in_strips(colour, lambda x: Image.alpha_composite(Image.new("RGBA", x.size, ground), x))


def _grey_of_numbers(image: Image.Image, negative: bool) -> Image.Image:
    """Bring 16-bit, 32-bit or float grey to 8 bits by the full range of its type, never by the picture's
    own."""
    parts = (np.asarray(strip) for strip, _ in _strips(image))
    ends = np.array([(part.min(), part.max()) for part in parts], dtype=np.float64)
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableImageError("its numbers are not finite")
    integers = image.mode != "F"
    top = 65535.0 if integers else (1.0 if high <= 1 else 255.0)
    if low < 0 or high > top:
        expected = "[0, 65535]" if integers else "[0, 1] or [0, 255]"
        raise UnreadableImageError(f"its numbers reach from {low:g} to {high:g}; expected {expected}")

    def grey(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip).astype(np.float64)
        return Image.fromarray(
            np.rint((top - values if negative else values) * (255.0 / top)).astype(np.uint8)
        )

    return _in_strips(image, grey)


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    """A picture from top to bottom, some rows at a time, and the row at which each part begins."""
    rows = max(1, _STRIP // image.width)
    if rows >= image.height:
        yield image, 0
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What ``convert`` makes of a picture, as RGB, of some rows at a time."""
    whole = Image.new("RGB", image.size)
    for strip, top in _strips(image):
        whole.paste(convert(strip).convert("RGB"), (0, top))
    return whole


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Bring the central square of a picture to ``size`` x ``size`` pixels by antialiased bicubic
    interpolation.

    The short side becomes ``size`` and the rest is cut; a long thin picture never grows on the way.
    """
    side = min(image.size)
    if image.size == (size, size):
        return image
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if side == size:  # whole pixels, so that nothing is blurred
        return image.crop((int(left), int(top), int(left) + size, int(top) + size))
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
