"""Groups of images that are nearly the same, by the cosine of their embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.reductions import ALL_PAIRS, close_tiles

_SIDE = 2048


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Rows that belong together, in order, per row the cosine to the row of the group most like it, and their names."""

    rows: tuple[int, ...]
    similarities: tuple[float, ...]
    paths: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows, the earlier first, their cosine, and their names."""

    rows: tuple[int, int]
    similarity: float
    paths: tuple[str, ...] = ()


def near_duplicates(
    z: ArrayLike | Tensor,
    threshold: float,
    paths: Sequence[str] = (),
    *,
    sets: ArrayLike | Tensor | None = None,
) -> list[DuplicateGroup]:
    """Groups of rows linked by cosines of at least `threshold`, the largest group first.

    Two rows are in one group if a chain of such pairs leads from one to the other (connected components,
    single linkage), so that the ends of a chain may be less alike than the threshold. With `sets`, the number of the
    set that each row belongs to, rows of one set are not compared: each group holds rows of at least two.

    Shape: ``(n, d)``, normalised here; `paths` n names, or none; `sets` ``(n,)``.

    Raises: ValueError for another shape, non-finite rows or a threshold outside (-1, 1].

    Numerics: exact, float32 in tiles of 16 MB at the most: n^2 d operations up to 16,384 rows, and beyond, where rows
    are spread, a few per cent of that (:func:`isosphere.reductions.close_tiles`); of cosines within 1e-6 of the
    threshold rounding decides. A zero row is like nothing.
    """
    unit, of = _compared(z, threshold, sets)
    n = len(unit)
    parent, best = torch.arange(n), torch.full((n,), -1.0)
    links: list[Tensor] = []  # trees are joined many at once: that goes over all rows
    waiting = 0
    for rows, columns, cosines in _tiles(unit, of, threshold, itself=-1.0):
        along, down = (cosines.amax(axis).cpu() for axis in (1, 0))
        best[rows] = torch.maximum(best[rows], along)
        best[columns] = torch.maximum(best[columns], down)
        # A cosine of 1 is rarely computed as 1: identical rows must pass a threshold of 1.
        if not bool((along >= threshold - 1e-6).any()):
            continue
        # Pairs that are together already are left out, so that a collapsed encoder does not make n^2 of them.
        apart = parent[rows][:, None] != parent[columns]
        found = ((cosines >= threshold - 1e-6) & apart.to(cosines.device)).nonzero().cpu()
        links.append(torch.stack([rows[found[:, 0]], columns[found[:, 1]]]))
        waiting += len(found)
        if waiting > n:
            _unite(parent, *torch.cat(links, 1))
            links, waiting = [], 0
    if links:
        _unite(parent, *torch.cat(links, 1))
    _, sizes = torch.unique(parent, return_counts=True)
    members = parent.argsort(stable=True).split(sizes.tolist()) if n else []
    groups = [
        DuplicateGroup(
            tuple(rows.tolist()),
            tuple(best[rows].clamp(max=1.0).tolist()),
            tuple(str(paths[row]) for row in rows.tolist()) if paths else (),
        )
        for rows in members
        if len(rows) > 1
    ]
    return sorted(groups, key=lambda group: (-len(group), group.rows[0]))


def nearest_pair(
    unit: Tensor, paths: Sequence[str] = (), *, sets: ArrayLike | Tensor | None = None
) -> DuplicateGroup | None:
    """The two rows with the largest cosine, as a group; None of fewer than two. `unit`: ``(n, d)`` unit rows; `sets` as
    of :func:`near_duplicates`.
    """
    found = pairs_near(unit, 1.0, 1, paths, sets=sets)
    if not found:
        return None
    pair = found[0]
    return DuplicateGroup(pair.rows, (pair.similarity,) * 2, pair.paths)


def pairs_near(
    z: ArrayLike | Tensor,
    threshold: float,
    count: int,
    paths: Sequence[str] = (),
    *,
    sets: ArrayLike | Tensor | None = None,
) -> list[Pair]:
    """The pairs of rows whose cosines are nearest to a threshold, the most alike first: half of them at or above it and
    half below, where there are so many; else more of the others.

    Args and errors as of :func:`near_duplicates`; `count` pairs at the most.

    Numerics: as of :func:`near_duplicates`, and again for wider and wider bands of cosines below the threshold until
    enough pairs are found.
    """
    unit, of = _compared(z, threshold, sets)
    floor, width = threshold, 0.02 if len(unit) > ALL_PAIRS else 2.0
    while True:
        floor = floor - width if floor - width > 0.0 else -1.0
        above, below = _nearest_of(unit, of, threshold, floor, count)
        if floor == -1.0 or len(below[0]) >= count - min(len(above[0]), count - count // 2):
            break
        width *= 2
    most = min(len(above[0]), max(count - count // 2, count - len(below[0])))
    values = torch.cat([-above[0][:most], below[0][: count - most]]).clamp(max=1.0)
    places = torch.cat([above[1][:most], below[1][: count - most]])
    return [
        Pair((a, b), value, (str(paths[a]), str(paths[b])) if paths else ())
        for value, (a, b) in sorted(
            zip(values.tolist(), map(tuple, places.tolist()), strict=True), key=lambda p: (-p[0], p[1])
        )
    ]


Nearest = tuple[Tensor, Tensor]
"""Keys, the largest first, and the pairs of rows that they belong to."""


def _nearest_of(
    unit: Tensor, of: Tensor | None, threshold: float, floor: float, count: int
) -> tuple[Nearest, Nearest]:
    """The pairs at or above a threshold that are nearest to it, by their cosines with the other sign, and those below
    it but not below `floor`, by their cosines.
    """
    above = below = (torch.empty(0), torch.empty(0, 2, dtype=torch.int64))
    for rows, columns, cosines in _tiles(unit, of, floor, itself=-2.0):
        if rows is columns:  # each pair once
            cosines = cosines.triu(1).where(torch.ones_like(cosines).triu(1) > 0, -2.0)
        values = cosines.flatten()
        high, low = values >= threshold - 1e-6, values < floor
        above = _nearer(above, torch.where(high, -values, -2.0), rows, columns, count)
        below = _nearer(below, torch.where(high | low, -2.0, values), rows, columns, count)
    return above, below


def _nearer(kept: Nearest, values: Tensor, rows: Tensor, columns: Tensor, count: int) -> Nearest:
    """The largest values so far with their pairs of rows; -2 and below is none."""
    if len(kept[0]) == count and float(values.max()) <= float(kept[0][-1]):
        return kept
    found, at = values.topk(min(count, len(values)))
    at = at.cpu()[found.cpu() > -2.0]
    places = torch.stack([rows[at // len(columns)], columns[at % len(columns)]], 1).sort(1).values
    merged, places = torch.cat([kept[0], values.cpu()[at]]), torch.cat([kept[1], places])
    order = merged.argsort(descending=True, stable=True)[:count]
    return merged[order], places[order]


def _compared(
    z: ArrayLike | Tensor, threshold: float, sets: ArrayLike | Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Unit rows, and which set each belongs to. Raises: ValueError."""
    x = torch.as_tensor(z)
    if x.ndim != 2:
        raise ValueError(f"z: got shape {tuple(x.shape)}, expected (n, d)")
    if not torch.isfinite(x).all():
        raise ValueError("z: got non-finite numbers, expected finite ones; drop or repair these rows first")
    if not -1 < threshold <= 1:
        raise ValueError(f"threshold: got {threshold}, expected a cosine above -1 and at most 1")
    of = None if sets is None else torch.as_tensor(sets).to(x.device)
    if of is not None and of.shape != (len(x),):
        raise ValueError(f"sets: got shape {tuple(of.shape)}, expected ({len(x)},)")
    return functional.normalize(x.float(), dim=1), of


def _tiles(
    unit: Tensor, of: Tensor | None, cosine: float, *, itself: float
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cosines of rows with each other, of every pair with at least this cosine and of others; of pairs that are not
    compared `itself`.
    """
    for rows, columns, cosines in close_tiles(unit, cosine - 1e-6, side=_SIDE):
        if of is not None:
            of_rows, of_columns = of[rows.to(of.device)], of[columns.to(of.device)]
            cosines.masked_fill_(of_rows[:, None] == of_columns, itself)
        elif rows is columns:
            cosines.fill_diagonal_(itself)
        yield rows, columns, cosines


def _unite(parent: Tensor, a: Tensor, b: Tensor) -> None:
    """Join the trees of each pair: the larger root is hung below the smaller one until all pairs agree."""
    while True:
        roots, others = parent[a], parent[b]
        apart = roots != others
        if not apart.any():
            return
        a, b, roots, others = a[apart], b[apart], roots[apart], others[apart]
        parent.scatter_reduce_(0, torch.maximum(roots, others), torch.minimum(roots, others), "amin")
        while not torch.equal(up := parent[parent], parent):
            parent.copy_(up)
