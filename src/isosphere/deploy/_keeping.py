"""Which image of a group of near-duplicates is kept."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isosphere.data import Source, UnreadableImageError, visible
from isosphere.deploy._duplicates import DuplicateGroup
from isosphere.errors import UsageError, nearest, option

Keep = Literal["first", "largest", "sharpest"]
KEEPS: dict[Keep, str] = {
    "first": "the one that is listed first; between sets all of the first set",
    "largest": "the one with the most pixels, the first of equals",
    "sharpest": "the one with the most fine detail where all are brought to one size, the first of equals",
}
MOST_PIXELS = 1024
"""Longest side at which sharpness is compared."""


def named_keep(name: str) -> Keep:
    """The rule of this name. Raises: UsageError if there is none."""
    for known in KEEPS:
        if name == known:
            return known
    raise UsageError(f"{option('keep')}: got '{name}', expected {', '.join(KEEPS)}.{nearest(name, KEEPS)}")


def rows_to_drop(
    groups: Sequence[DuplicateGroup],
    keep: Keep,
    source: Source,
    positions: NDArray[np.int64],
    *,
    sets: Sequence[int] | NDArray[np.int64] | None = None,
) -> list[int]:
    """Rows of groups that repeat one that is kept, in order.

    Args:
        source, positions: where the images are, and at which position that of each row.
        sets: the set of each row, where only rows of different sets were compared; with ``first`` all of a group's
            earliest set are kept.

    Numerics: ``sharpest`` is the mean square of the Laplacian of the grey picture, brought to the size of the group's
        largest, at most 1,024 pixels a side; an enlarged picture is less sharp than its original. An image that cannot
        be read any more is not kept.
    """
    dropped = []
    for group in groups:
        rows = sorted(group.rows)
        if keep == "first" and sets is not None:
            first = min(int(sets[row]) for row in rows)
            dropped += [row for row in rows if sets[row] != first]
            continue
        places = [int(positions[row]) for row in rows]
        if keep == "first":
            best = 0
        elif keep == "largest":
            best = int(np.argmax([_pixels(source, i) for i in places]))
        else:
            best = int(np.argmax(_sharpness(source, places)))
        dropped += [row for k, row in enumerate(rows) if k != best]
    return sorted(dropped)


def laplacian_energy(image: Image.Image, size: tuple[int, int]) -> float:
    """Mean square of the discrete Laplacian of a picture in grey, 0 to 255, brought to a size."""
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC), np.float64)
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(np.square(laplacian).mean())


def _pixels(source: Source, i: int) -> int:
    try:
        width, height = source.dimensions(i)
    except UnreadableImageError:
        return -1
    return width * height


def _sharpness(source: Source, places: Sequence[int]) -> list[float]:
    largest = max(places, key=lambda i: (_pixels(source, i), -i))
    try:
        shown = visible(source.image(largest, at_least=MOST_PIXELS))
    except UnreadableImageError:
        return [0.0] * len(places)
    scale = min(1.0, MOST_PIXELS / max(shown.size))
    size = max(1, round(scale * shown.width)), max(1, round(scale * shown.height))
    found = []
    for i in places:
        try:
            found.append(laplacian_energy(visible(source.image(i, at_least=MOST_PIXELS)), size))
        except UnreadableImageError:
            found.append(-1.0)
    return found
