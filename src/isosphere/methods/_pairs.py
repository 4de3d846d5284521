"""Which views meet which, and means over the rows of all ranks."""

__all__ = [
    "check_views",
    "directed_pairs",
    "entries",
    "row_mean",
    "row_total",
    "squared_distance",
    "undirected_pairs",
]

from collections.abc import Sequence

import torch
from torch import Tensor

from isosphere.devices import constant
from isosphere.reductions import Group, all_reduce, row_counts


def directed_pairs(global_views: int, views: int) -> list[tuple[int, int]]:
    """Every (target, other): a global view and each of the other views, global or local.

    The multi-crop convention of all methods with pairs: a loss is the mean over these. Two global views: (0, 1) and
    (1, 0), the two directions of the papers.
    """
    return [(g, v) for g in range(min(global_views, views)) for v in range(views) if v != g]


def undirected_pairs(global_views: int, views: int) -> list[tuple[int, int, float]]:
    """The same pairs for a loss that does not tell its two arguments apart: (one, other, share), shares of sum 1.

    Two global views meet in both directions and so count twice as much as a global with a local one.
    """
    pairs = directed_pairs(global_views, views)
    shares: dict[tuple[int, int], float] = {}
    for g, v in pairs:
        key = (min(g, v), max(g, v))
        shares[key] = shares.get(key, 0.0) + 1 / len(pairs)
    return [(a, b, share) for (a, b), share in shares.items()]


def row_total(z: Tensor, group: Group = None) -> int:
    """Number of rows over all ranks; ``z`` is ``(*, n_r, d)`` on rank ``r``, counts may differ."""
    return sum(row_counts(z.shape[-2], z.device, group))


def row_mean(values: Tensor, n: int, group: Group = None) -> Tensor:
    r"""Mean over the n rows of all ranks, :math:`\frac1n \sum_r \sum_{i \le n_r} x_{ri}`, differentiable.

    Shape:
        ``(*, n_r)`` on rank ``r``, counts may differ, to ``(*)``.
    """
    return all_reduce(values.sum(-1), group) / n


def squared_distance(x: Tensor, y: Tensor, n: int, group: Group = None) -> Tensor:
    """Mean over the n rows of all ranks of ``|x_i - y_i|^2``; shape ``(*, n_r, d)`` -> ``(*)``."""
    return row_mean((x - y).square().sum(-1), n, group)


def entries(x: Tensor, places: Sequence[int], dim: int = 0) -> Tensor:
    """The entries of a dimension at these places; the index is kept on the device, so that no step waits for it.

    All of them as they are, or the other way round as of two views, are one operator forward and backward at most.
    """
    if list(places) == list(range(x.shape[dim])):
        return x
    if list(places[::-1]) == list(range(x.shape[dim])):
        return x.flip(dim)
    return x.index_select(dim, constant(tuple(places), x.device, torch.int64))


def check_views(views: list[Tensor], global_views: int) -> None:
    """Raise ValueError unless there are the global views, at least two views in all, each of every image."""
    least = max(2, global_views)
    if len(views) < least:
        raise ValueError(f"got {len(views)} view(s), expected at least {least}, global ones first")
    rows = [len(view) for view in views]
    if len(set(rows)) > 1:
        raise ValueError(f"got views of {rows} images, expected a view of every image in each")
