"""Images that are already arrays."""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError, option

from ._limits import MAX_FILE_BYTES, MAX_PIXELS, UnreadableImageError
from ._numbers import Numbers, whose
from ._picture import over_ground, scaled, taken, white_of
from ._pixels import Picture, Reading
from ._source import Source, array_digest

_CHANNELS = (1, 3, 4)
"""Numbers of channels that tell where they stand in a shape; others do by the sides of the images."""


class ArraySource(Source):
    """Images of one array: (n, h, w) grey, (n, h, w, c) or (n, c, h, w) with any number of channels.

    Numbers may be uint8, bool, or those of `Reading.white`; where that is None uint16 (divided by 257), other integers
    to 255, or floats in [0, 1] or [0, 255] by the largest of all. Four channels are four bands, and transparency where
    `Reading.channels` says so.

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
        self.images = channels_last(images)
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

    def read_as(self, reading: Reading) -> Self:
        require_channels(self.name, self.images.shape[-1], reading)
        return super().read_as(reading)

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        return taken(self._bytes(i), self.reading.channels, self.reading.opening.ground)

    def dimensions(self, i: int) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[1]

    def numbers(self, i: int) -> Numbers:
        return Numbers.of(self.images[i])

    def digest(self, i: int) -> bytes:
        if self.reading.white is not None:
            return array_digest(self.images[i])
        values, channels = self._bytes(i), self.reading.channels
        transparent = values.shape[-1] == 4 and channels is not None and channels.colour == "rgba"
        return array_digest(over_ground(values) if transparent else values)  # as earlier versions had it

    def _bytes(self, i: int) -> NDArray[np.uint8]:
        try:
            return as_bytes(self.images[i : i + 1], white=self.reading.white, ends=self._ends)[0]
        except ValueError as error:
            raise UnreadableImageError(str(error)) from error


def as_bytes(
    images: NDArray, *, white: float | None = None, ends: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Images of any of the shapes and numbers of `ArraySource` as uint8 (n, h, w, bands).

    Args:
        white: of `Reading`. ends: least and greatest number of the set that the images belong to; None: their own.

    Raises: ValueError if shape or numbers are something else.
    """
    require_images("the images have", images.shape, images.dtype)
    return _bytes(channels_last(images), white, ends)


def is_one_picture(shape: Sequence[int]) -> bool:
    """Whether an array that should hold several images is one of several channels: (h, w, 3), and not n images of 3
    columns; of other numbers a square one, for few sets have as many images as these have rows.
    """
    if len(shape) != 3 or min(shape[:2]) <= 4:
        return False
    return shape[2] in (3, 4) or (shape[0] == shape[1] and 2 <= shape[2] < shape[0] / 2)


def channel_axis(shape: Sequence[int]) -> int | None:
    """Where the channels stand in a picture's shape: 2 for (h, w, c), 0 for (c, h, w), None if it cannot be told.

    1, 3 and 4 are channels; else what is no side of a square picture; else the smaller.
    """
    first, middle, last = shape
    if last in _CHANNELS or first in _CHANNELS:
        return 2 if last in _CHANNELS else 0
    if (first == middle) != (middle == last):
        return 2 if first == middle else 0
    return 2 if last < min(first, middle) else 0 if first < min(middle, last) else None


def require_channels(name: str, bands: int, reading: Reading) -> None:
    """Refuse images of so many bands that are not those of a reading. Raises: UsageError, naming both."""
    channels = reading.channels
    if channels is not None and not channels.fit(bands):
        raise UsageError(
            f"The images{whose(name)} have {bands} band{'s' * (bands > 1)}, and {channels.expected} are expected "
            f"(data.channels: {channels})."
        )


def require_images(what: str, shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuse an array, before it is read, that holds no images or too large ones; ``what`` is "the images have".

    Raises: ValueError.
    """
    axis = 2 if len(shape) == 3 else channel_axis(shape[1:]) if len(shape) == 4 else None
    if axis is None:
        raise ValueError(
            f"{what} shape {tuple(shape)}; expected (n, h, w), (n, h, w, channels) or (n, channels, h, w)"
        )
    if min(shape) < 1:
        raise ValueError(f"{what} shape {tuple(shape)}; expected at least one image of one pixel")
    if is_one_picture(shape):
        raise ValueError(f"{what} shape {tuple(shape)}: one picture; expected several, (n, h, w, {shape[2]})")
    height, width = shape[1:3] if axis == 2 else shape[2:4]
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"{what} shape {tuple(shape)}, images of more than the {MAX_PIXELS:,} pixels that are read"
        )
    if dtype.kind not in "biuf":
        raise ValueError(f"{what} numbers of {dtype}; expected bytes, other integers or floats")
    if (each := math.prod(shape[1:]) * dtype.itemsize) > MAX_FILE_BYTES:
        raise ValueError(f"{what} images of {each:,} bytes, more than {MAX_FILE_BYTES:,}")


def channels_last(images: NDArray) -> NDArray:
    """Images of any of the shapes of `ArraySource` as (n, h, w, c)."""
    if images.ndim == 3:
        return images[..., None]
    return images if channel_axis(images.shape[1:]) == 2 else np.moveaxis(images, 1, 3)


def _bytes(images: NDArray, white: float | None, ends: tuple[float, float] | None) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    if white is not None and images.dtype != np.bool_:
        top = white_of(images.dtype.kind == "f", float(images.min()), float(images.max()), white)
    else:
        top = _own_white(images.dtype, *(ends or (float(images.min()), float(images.max()))))
    made = np.empty(images.shape, np.uint8)
    for k, image in enumerate(images):
        made[k] = scaled(image, top)
    return made


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
