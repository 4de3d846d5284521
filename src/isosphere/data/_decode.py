"""From the bytes of a file to an upright RGB picture, or to one sentence on why not."""

import io
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for kinds in ("jpg jpeg jpe jfif jp2", "png gif webp avif", "tif tiff bmp dib", "ppm pgm pbm pnm")
    for suffix in kinds.split()
)
# Pillow reads far more (PostScript runs Ghostscript); a training set needs no more than these.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded: the size at which Pillow itself refuses (half a gigabyte as RGB)."""

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read, after unpacking when it lies in an archive."""


class UnreadableImageError(OSError):
    """One image cannot be used; the message is the reason, without the name of the file."""


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _quiet():
    # Filters of warnings are shared by all threads: only the main thread may change them. Callers that decode
    # in threads silence Pillow's remarks on broken metadata around the whole pool.
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return warnings.catch_warnings(action="ignore")


def decode(file: Path | bytes | BinaryIO, *, at_least: int | None = None) -> Image.Image:
    """Decode the first frame of an image file as an upright 8-bit RGB picture.

    EXIF orientation is applied, transparency is laid over white, 16-bit grey is divided by 257, and floats in
    [0, 1] or [0, 255] are accepted. With ``at_least``, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size
    as long as the short side keeps that many pixels.

    Raises: UnreadableImageError, whatever is wrong with the file.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with _quiet(), Image.open(stream, formats=_known_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(
                    f"{image.width} x {image.height} pixels: more than the {MAX_PIXELS:,} that are decoded"
                )
            if at_least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (at_least, at_least))
            return upright_rgb(image)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
        raise UnreadableImageError(_reason(error)) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture that PIL has opened as upright 8-bit RGB, as `decode` does it. Raises: UnreadableImageError."""
    try:
        image.load()
        return _to_rgb(_upright(image))
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a format that is read here, or damaged at its start"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the {MAX_PIXELS:,} pixels that are decoded"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata beside sound pixels: keep the picture as it lies
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _grey_of_numbers(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colour = image.convert("RGBA")
        ground = Image.new("RGBA", colour.size, "white")
        return Image.alpha_composite(ground, colour).convert("RGB")
    return image.convert("RGB")


def _grey_of_numbers(values: np.ndarray) -> Image.Image:
    """Bring 16-bit, 32-bit or float grey to 8 bits by the full range of its type, never by the picture's
    own."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableImageError("its numbers are not finite")
    integers = np.issubdtype(values.dtype, np.integer)
    top = 65535.0 if integers else (1.0 if high <= 1 else 255.0)
    if low < 0 or high > top:
        expected = "[0, 65535]" if integers else "[0, 1] or [0, 255]"
        raise UnreadableImageError(f"its numbers reach from {low:g} to {high:g}; expected {expected}")
    grey = np.rint(values.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


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
