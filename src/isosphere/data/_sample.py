"""Some images of a source, evenly spread over it, for a look at what it holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ._source import Source

_TOGETHER = 32


def sample(source: "Source", most: int) -> Iterator[int]:
    """Positions of at most so many images, the first and the last among them; while one is looked at, those near it
    are asked for too.
    """
    positions = spread(len(source), most)
    for start in range(0, len(positions), _TOGETHER):
        some = positions[start : start + _TOGETHER]
        with source.ahead(some):
            yield from some


def spread(count: int, most: int) -> list[int]:
    """So many of ``count`` positions at the most, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)).tolist()
