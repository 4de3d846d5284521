"""A picture that keeps its shape: what random crops of training are drawn from."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional

from ._limits import UnreadableImageError
from ._sample import sample
from ._source import Source

LONGEST = 4
"""Times its short side that a picture is long at the most; of a longer one the middle is kept."""


def whole_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of a picture whose short side becomes ``size``, its long side at most `LONGEST` times that."""
    short = min(height, width)
    height, width = (max(size, round(min(side, LONGEST * short) * size / short)) for side in (height, width))
    return height, width


def whole(source: Source, i: int, size: int) -> Tensor:
    """Image ``i`` of a source with its short side brought to ``size`` by antialiased bicubic interpolation, nothing cut
    but what is longer than `LONGEST` times that.

    Shape: uint8 (c, h, w), the smaller of h and w ``size``. Raises: UnreadableImageError.
    """
    return fit_whole(source.read(i, at_least=2 * size), size)


def fit_whole(picture: Tensor, size: int) -> Tensor:
    """As :func:`whole`, of a picture that was decoded: uint8 (c, h, w)."""
    height, width = picture.shape[1:]
    longest = LONGEST * min(height, width)
    for axis, side in ((1, height), (2, width)):
        if side > longest:
            picture = picture.narrow(axis, (side - longest) // 2, longest)
    shape = whole_shape(height, width, size)
    if picture.shape[1:] != shape:
        resize = {"mode": "bicubic", "antialias": True}
        picture = functional.interpolate(picture[None], shape, **resize)[0]
    return picture.contiguous()


class Shapes(NamedTuple):
    """Of the pictures of a source, by a sample spread over it: bytes of one as :func:`whole` keeps it, and the share
    that is cut to its middle.
    """

    bytes_each: float
    too_long: float

    @classmethod
    def of(cls, source: Source, size: int, *, channels: int = 3, samples: int = 256) -> "Shapes":
        """Look at ``samples`` of the pictures; at the sizes of their files alone where that is possible."""
        found = np.array(list(_each(source, samples, source.dimensions)), dtype=float).reshape(-1, 2)
        if not len(found):
            return cls(channels * size**2, 0.0)
        shapes = np.array([whole_shape(int(height), int(width), size) for width, height in found])
        too_long = found.max(1) > LONGEST * found.min(1)
        return cls(channels * float(shapes.prod(1).mean()), float(too_long.mean()))


def _each(source: Source, samples: int, look: Callable[[int], tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for i in sample(source, samples):
        with suppress(UnreadableImageError):
            yield look(i)
