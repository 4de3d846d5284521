"""Lists of images by their embeddings: what stands out, what stands for the rest, what belongs together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from isosphere.deploy import Index
from isosphere.errors import UsageError, nearest, option, plural
from isosphere.reductions import nearest_neighbours
from isosphere.statistics import clusters, farthest_first, neighbour_distances, typical_rows

How = Literal["diverse", "typical"]

LISTED = 20
OUTLIER_NEIGHBOURS = 10
"""Neighbours of an outlier, at the most: the distance to the last of them is its score."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image that lies apart: `distance` to its k-th nearest neighbour (:func:`outlier_neighbours`), and the nearest
    image with its cosine.
    """

    path: str
    distance: float
    nearest: str
    similarity: float
    label: str | None
    row: int


@dataclass(frozen=True, slots=True)
class Selected:
    """An image of a subset. Diverse: `distance` to the nearest image that was chosen before it, nan for the first.
    Typical: `images` that it stands for.
    """

    path: str
    label: str | None
    row: int
    distance: float = float("nan")
    images: int = 1


@dataclass(frozen=True, slots=True)
class Cluster:
    """Images that lie together, those nearest to their centre first, each with its cosine to the centre; `label`: the
    class that most of them have, `share` of the labelled ones.
    """

    number: int
    paths: tuple[str, ...]
    similarities: tuple[float, ...]
    rows: tuple[int, ...]
    label: str | None = None
    share: float = float("nan")

    def __len__(self) -> int:
        return len(self.rows)


def outlier_neighbours(images: int) -> int:
    """10 neighbours; of up to 30 images a third of the others, since the farthest of all others is about as far from
    every image, copies too.
    """
    return max(1, min(OUTLIER_NEIGHBOURS, (images - 1) // 3))


def outliers_of(index: Index, count: int | None = None) -> list[Outlier]:
    """Images of an index by the distance to their k-th nearest neighbour (:func:`outlier_neighbours`), the farthest
    first (:func:`isosphere.statistics.neighbour_distances`).
    """
    n = len(index)
    _several(n)
    distances = neighbour_distances(index.unit, outlier_neighbours(n))[:, -1]
    rows = distances.argsort(descending=True, stable=True)[: n if count is None else count]
    cosines, near = nearest_neighbours(index.unit[rows], index.unit, 1, exclude=rows)
    found = zip(rows.tolist(), near[:, 0].tolist(), cosines[:, 0].clamp(-1, 1).tolist(), strict=True)
    return [
        Outlier(index.paths[i], float(distances[i]), index.paths[j], cosine, index.label_of(i), i)
        for i, j, cosine in found
    ]


def select_from(
    index: Index, count: int, how: How = "diverse", *, chosen: Sequence[int] = (), seed: int = 0
) -> list[Selected]:
    """A subset of an index for labelling: diverse by farthest-point selection, or typical of `count` clusters.

    `chosen`: rows that are labelled already. Diverse images keep away from them; of typical ones those clusters are
    left out that have one, as far as there are enough others.
    """
    check_count(count, len(index), labelled=len(set(chosen)))
    if how == "diverse":
        before = torch.tensor(sorted(set(chosen)), dtype=torch.int64)
        rows, distances = farthest_first(index.unit, count, chosen=before if len(before) else None)
        pairs = zip(rows.tolist(), distances.tolist(), strict=True)
        return [Selected(index.paths[i], index.label_of(i), i, distance=d) for i, d in pairs]
    left = torch.tensor(sorted(set(range(len(index))) - set(chosen)))
    rows, sizes = typical_rows(index.unit[left], count, seed=seed)
    rows = left[rows]
    return [
        Selected(index.paths[i], index.label_of(i), i, images=size)
        for i, size in zip(rows.tolist(), sizes.tolist(), strict=True)
    ]


def clusters_of(index: Index, count: int, *, seed: int = 0) -> list[Cluster]:
    """Clusters of the images of an index, the largest first (:func:`isosphere.statistics.clusters`)."""
    found = clusters(index.unit, count, seed=seed)
    made = []
    for number in range(len(found.sizes)):
        rows = found.rows(number)
        names = Counter(name for row in rows.tolist() if (name := index.label_of(row)) is not None)
        label, most = names.most_common(1)[0] if names else (None, 0)
        made.append(
            Cluster(
                number + 1,
                tuple(index.paths[row] for row in rows.tolist()),
                tuple(found.cosines[rows].tolist()),
                tuple(rows.tolist()),
                label,
                most / names.total() if names else float("nan"),
            )
        )
    return made


def check_how(how: str) -> How:
    """Raises: UsageError for a subset of another kind."""
    for known in get_args(How):
        if how == known:
            return known
    raise UsageError(
        f"{option('how')}: got '{how}', expected diverse or typical.{nearest(how, get_args(How))}"
    )


def check_count(count: int, images: int, *, labelled: int = 0) -> None:
    """Raises: UsageError for more than there are, without those that are labelled."""
    left = images - labelled
    if images and left == 0:
        raise UsageError(f"All {plural(images, 'image')} have a label: none is left to choose.")
    if not 1 <= count <= left:
        without = " without a label" if labelled else ""
        raise UsageError(
            f"{option('k')}: got {count}, expected 1 to {left:,}, the number of images{without}."
        )


def list_count(images: int, count: int | None = None) -> int:
    """So many clusters, or outliers; 20, of fewer than 100 images a fifth of them, where no number is given.

    Raises: UsageError for more than images.
    """
    chosen = max(1, min(LISTED, images // 5)) if count is None else count
    check_count(chosen, images)
    return chosen


def rows_of(index: Index, names: Sequence[str]) -> list[int]:
    """Rows of an index by the names of their images. Raises: UsageError for a name that is not there."""
    at: dict[str, list[int]] = {}
    for row, path in enumerate(index.paths):
        at.setdefault(path, []).append(row)
    for name in names:
        if name not in at:
            raise UsageError(f"there is no image {name} among these.{nearest(name, at)}")
    return [row for name in names for row in at[name]]


def _several(n: int) -> None:
    if n < 2:
        raise UsageError(f"{plural(n, 'image')} cannot be compared: give at least 2.")
