"""Images that are already arrays."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isosphere.errors import option

from ._limits import MAX_FILE_BYTES, MAX_PIXELS, UnreadableImageError
from ._numbers import Numbers
from ._picture import to_bytes, white_of
from ._source import Source, array_digest
from ._transparency import opaque

_AT_A_TIME = 1 << 20
"""Numbers that are scaled at a time: in double precision a large image would take eight times its memory."""
_CHANNELS = (1, 3, 4)


class ArraySource(Source):
    """Images of one array: (n, h, w) grey, (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels.

    Numbers may be uint8, bool, or those of `Reading.white`; where that is None uint16 (divided by 257), other integers
    to 255, or floats in [0, 1] or [0, 255] by the largest of all. Transparency is laid over white, as of files.

    Raises: ValueError if the shape or the kind of numbers is something else; what leaves its range cannot be read.
    """

    in_memory = True

    def __init__(
        self,
        images: NDArray,
        *,
        name: str,
        labels: NDArray[np.int64] | None = None,
        class_names: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        has_test_split: bool = False,
        unreadable: Sequence[tuple[str, str]] = (),
        left_out: Sequence[tuple[str, str]] = (),
    ) -> None:
        require_images("the images have", images.shape, images.dtype)
        self.images = _channels_last(images)
        self._ends = None if images.dtype == np.uint8 else (float(images.min()), float(images.max()))
        super().__init__(
            name,
            paths if paths is not None else [f"{name}/{i}" for i in range(len(images))],
            labels=labels,
            class_names=class_names,
            has_test_split=has_test_split,
            unreadable=unreadable,
            left_out=left_out,
        )

    def image(self, i: int, *, at_least: int | None = None) -> Image.Image:
        pixels = self._bytes(i)
        return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))

    def dimensions(self, i: int) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[1]

    def numbers(self, i: int) -> Numbers:
        return Numbers.of(self.images[i])

    def digest(self, i: int) -> bytes:
        return array_digest(self._bytes(i) if self.reading.white is None else self.images[i])

    def _bytes(self, i: int) -> NDArray[np.uint8]:
        try:
            return as_bytes(self.images[i : i + 1], white=self.reading.white, ends=self._ends)[0]
        except ValueError as error:
            raise UnreadableImageError(str(error)) from error


def as_bytes(
    images: NDArray, *, white: float | None = None, ends: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Images of any of the shapes and numbers of `ArraySource` as uint8 (n, h, w, 1 or 3).

    Args:
        white: of `Reading`. ends: least and greatest number of the set that the images belong to; None: their own.

    Raises: ValueError if shape or numbers are something else.
    """
    require_images("the images have", images.shape, images.dtype)
    return opaque(_bytes(_channels_last(images), white, ends))


def is_one_picture(shape: Sequence[int]) -> bool:
    """Whether an array that should hold several images is one in colour: (h, w, 3), and not n images of 3 columns."""
    return len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4


def require_images(what: str, shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuse an array, before it is read, that holds no images or too large ones; ``what`` is "the images have".

    Raises: ValueError.
    """
    last = len(shape) == 3 or (len(shape) == 4 and shape[3] in _CHANNELS)
    if not last and not (len(shape) == 4 and shape[1] in _CHANNELS):
        raise ValueError(
            f"{what} shape {tuple(shape)}; expected (n, h, w), (n, h, w, c) or (n, c, h, w) with c = 1, 3 or 4"
        )
    if min(shape) < 1:
        raise ValueError(f"{what} shape {tuple(shape)}; expected at least one image of one pixel")
    if is_one_picture(shape):
        raise ValueError(f"{what} shape {tuple(shape)}: one picture; expected several, (n, h, w, {shape[2]})")
    height, width = shape[1:3] if last else shape[2:4]
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"{what} shape {tuple(shape)}, images of more than the {MAX_PIXELS:,} pixels that are read"
        )
    if dtype.kind not in "biuf":
        raise ValueError(f"{what} numbers of {dtype}; expected bytes, other integers or floats")
    if (each := math.prod(shape[1:]) * dtype.itemsize) > MAX_FILE_BYTES:
        raise ValueError(f"{what} images of {each:,} bytes, more than {MAX_FILE_BYTES:,}")


def _channels_last(images: NDArray) -> NDArray:
    if images.ndim == 3:
        return images[..., None]
    return images if images.shape[3] in _CHANNELS else np.moveaxis(images, 1, 3)


def _bytes(images: NDArray, white: float | None, ends: tuple[float, float] | None) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    if white is not None and images.dtype != np.bool_:
        top = white_of(images.dtype.kind == "f", float(images.min()), float(images.max()), white)
    else:
        top = _own_white(images.dtype, *(ends or (float(images.min()), float(images.max()))))
    scaled = np.empty(images.shape, np.uint8)
    rows = max(1, _AT_A_TIME // math.prod(images.shape[2:]))
    for image, made in zip(images, scaled, strict=True):
        for start in range(0, len(image), rows):
            part = slice(start, start + rows)
            made[part] = to_bytes(image[part], top)
    return scaled


def _own_white(dtype: np.dtype, low: float, high: float) -> float:
    """White by the type of numbers alone, and of floats by the greatest. Raises: ValueError."""
    if dtype.kind == "f":
        top = 1.0 if high <= 1 else 255.0
    else:
        top = {"bool": 1.0, "uint16": 65535.0}.get(dtype.name, 255.0)
    # Floats that end between 1 and 128 are on some scale of their own, which must not be guessed.
    own_scale = dtype.kind == "f" and 1 < high < 128
    if own_scale or not (low >= 0 and high <= top):
        raise ValueError(
            f"the images hold {dtype} from {low:g} to {high:g}; expected bytes, or floats that fill "
            f"[0, 1] or [0, 255]; else say which number is white: {option('data.white', ...)}"
        )
    return top
