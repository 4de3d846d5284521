r"""Pairs of unit rows with at least some cosine, without looking at all pairs.

Rows are divided among cells, each to the centre :math:`c_i` that it has the largest cosine with. Let :math:`x` be of
cell :math:`i`, :math:`y` of cell :math:`j`, and :math:`u = (c_i - c_j) / \lVert c_i - c_j \rVert`. Then
:math:`x \cdot u \ge 0 \ge y \cdot u`, and the plane between the cells lies at the angles
:math:`\arcsin (x \cdot u)` from :math:`x` and :math:`\arcsin (-y \cdot u)` from :math:`y`, so that

.. math:: \angle(x, y) \ge \max(\arcsin (x \cdot u),\ \arcsin (-y \cdot u)) .

Hence only rows within :math:`\sin \arccos t` of that plane can have the cosine :math:`t` with a row beyond it. Nothing
is lost: the centres decide how much is spared, not what is found.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.reductions._neighbours import pair_tiles
from isosphere.reductions._precision import full_precision

ALL_PAIRS = 16_384
"""Rows up to which all pairs are looked at, which is as fast."""
_MASK = 2**29  # which rows are near which cells: so many bytes at the most
_A_CELL, _ROUNDS = 32, 5
_ROUNDING = 1e-5

Tile = tuple[Tensor, Tensor, Tensor]


def close_tiles(unit: Tensor, cosine: float, *, side: int = 2048) -> Iterator[Tile]:
    """Tiles ``(rows, columns, cosines)`` that hold every pair of rows with at least this cosine once, and others. In a
    tile of rows with themselves, ``columns`` is ``rows``, each pair stands twice, and the diagonal is each row's own.

    Numerics:
        No graph. n^2 d operations for up to `ALL_PAIRS` rows, or where the rows are not spread; of spread rows a few
        per cent of that, the fewer the higher the cosine. Memory ``side^2`` numbers, and 512 MB of masks.

    Shape:
        unit ``(n, d)``, rows of length 1 or 0; rows int64 ``(a,)``, columns ``(b,)``, cosines ``(a, b)``.
    """
    if len(unit) <= ALL_PAIRS or cosine <= 0:
        place = torch.arange(len(unit))
        yield from _within(unit, place, side)
        return
    order, starts, near = _divided(unit, math.sqrt(max(0.0, 1.0 - cosine**2)))
    cells = len(starts) - 1
    for i in range(cells):
        own = order[starts[i] : starts[i + 1]]
        yield from _within(unit, own, side)
        close = near[starts[i] : starts[i + 1]]
        for j in close[:, i + 1 :].any(0).nonzero().flatten().add(i + 1).tolist():
            there = slice(starts[j], starts[j + 1])
            rows, columns = own[close[:, j]], order[there][near[there, i]]
            for some in rows.split(side) if len(columns) else ():
                for others in columns.split(side):
                    yield some, others, _products(unit, some, others)


def _within(unit: Tensor, place: Tensor, side: int) -> Iterator[Tile]:
    """All pairs of these rows."""
    for top, left, cosines in pair_tiles(unit if len(place) == len(unit) else unit[place], side=side):
        rows = place[top]
        yield rows, rows if top == left else place[left], cosines


def _divided(unit: Tensor, reach: float) -> tuple[Tensor, list[int], Tensor]:
    """Rows in the order of their cells, where each cell begins, and bool ``(n, cells)``: which of them, in that order,
    lie within `reach` of which cell.
    """
    n = len(unit)
    centres = _centres(unit, max(2, min(round(math.sqrt(n)), _MASK // n)))
    apart = torch.cdist(centres, centres)
    cell = torch.cat([_inner(block, centres).argmax(1) for block in unit.split(4096)])
    order = cell.argsort(stable=True)
    near = torch.cat(
        [
            _gaps(unit[rows], centres, cell[rows]) <= reach * apart[cell[rows]] + _ROUNDING
            for rows in order.split(4096)
        ]
    )
    starts = functional.pad(torch.bincount(cell, minlength=len(centres)).cumsum(0), (1, 0)).tolist()
    return order.cpu(), starts, near.cpu()


def _gaps(rows: Tensor, centres: Tensor, cell: Tensor) -> Tensor:
    """How much less the cosine with each centre is than that with the centre of the own cell."""
    cosines = _inner(rows, centres)
    return cosines.gather(1, cell[:, None]) - cosines


def _centres(unit: Tensor, count: int) -> Tensor:
    """Spherical k-means of a sample, in a few rounds."""
    chosen = torch.randperm(len(unit), generator=torch.Generator().manual_seed(0))[: _A_CELL * count]
    sample = unit[chosen.to(unit.device)]
    centres = sample[:count]
    for _ in range(_ROUNDS):
        cell = torch.cat([_inner(block, centres).argmax(1) for block in sample.split(4096)])
        sums = torch.zeros_like(centres).index_add_(0, cell, sample)
        centres = torch.where(sums.norm(dim=1, keepdim=True) > 0, functional.normalize(sums, dim=1), centres)
    return centres


def _products(unit: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return _inner(unit[rows.to(unit.device)], unit[columns.to(unit.device)])


def _inner(x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad(), full_precision(x.device):
        return x @ y.T
