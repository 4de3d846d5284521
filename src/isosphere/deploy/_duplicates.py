"""Groups of images that are nearly the same, by the cosine of their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.reductions import pair_tiles

_SIDE = 2048


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Rows that belong together, in order, per row the cosine to the row of the group most like it, and their names."""

    rows: tuple[int, ...]
    similarities: tuple[float, ...]
    paths: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def near_duplicates(
    z: ArrayLike | Tensor, threshold: float, paths: Sequence[str] = ()
) -> list[DuplicateGroup]:
    """Groups of rows linked by cosines of at least `threshold`, the largest group first.

    Two rows are in one group if a chain of such pairs leads from one to the other (connected components,
    single linkage), so that the ends of a chain may be less alike than the threshold.

    Shape: ``(n, d)``, normalised here; `paths` n names, or none.

    Raises: ValueError for another shape, non-finite rows or a threshold outside (-1, 1].

    Numerics: exact, every pair once, float32 in squares of 16 MB: n^2 d operations, and memory that does not grow with
    n; of cosines within 1e-6 of the threshold rounding decides. A zero row is like nothing.
    """
    x = torch.as_tensor(z)
    if x.ndim != 2:
        raise ValueError(f"z: got shape {tuple(x.shape)}, expected (n, d)")
    if not torch.isfinite(x).all():
        raise ValueError("z: got non-finite numbers, expected finite ones; drop or repair these rows first")
    if not -1 < threshold <= 1:
        raise ValueError(f"threshold: got {threshold}, expected a cosine above -1 and at most 1")
    unit = functional.normalize(x.float(), dim=1)
    n = len(unit)
    parent, best = torch.arange(n), torch.full((n,), -1.0)
    for rows, columns, cosines in pair_tiles(unit, side=_SIDE):
        if rows == columns:
            cosines.fill_diagonal_(-1.0)
        along, down = (cosines.amax(axis).cpu() for axis in (1, 0))
        best[rows] = torch.maximum(best[rows], along)
        best[columns] = torch.maximum(best[columns], down)
        # A cosine of 1 is rarely computed as 1: identical rows must pass a threshold of 1.
        if not bool((along >= threshold - 1e-6).any()):
            continue
        # Pairs that are together already are left out, so that a collapsed encoder does not make n^2 of them.
        apart = parent[rows][:, None] != parent[columns]
        a, b = ((cosines.cpu() >= threshold - 1e-6) & apart).nonzero(as_tuple=True)
        _unite(parent, a + rows.start, b + columns.start)
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


def nearest_pair(unit: Tensor, paths: Sequence[str] = ()) -> DuplicateGroup | None:
    """The two rows with the largest cosine, as a group; None of fewer than two. `unit`: ``(n, d)`` unit rows."""
    best, rows = -2.0, (0, 0)
    for down, along, cosines in pair_tiles(unit, side=_SIDE):
        if down == along:
            cosines.fill_diagonal_(-2.0)
        value, at = cosines.flatten().max(0)
        if value > best:
            i, j = divmod(int(at), cosines.shape[1])
            best, rows = float(value), (down.start + i, along.start + j)
    if len(unit) < 2:
        return None
    a, b = sorted(rows)
    return DuplicateGroup(
        (a, b), (min(best, 1.0),) * 2, tuple(str(paths[row]) for row in (a, b)) if paths else ()
    )


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
