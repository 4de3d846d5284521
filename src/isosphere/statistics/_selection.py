"""Rows that stand out, rows that are typical, and few rows that stand for many."""

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.reductions import nearest_neighbours
from isosphere.sphere import chord
from isosphere.statistics._clusters import kmeans

_FLOOR = 1e-6  # of a mean distance: copies have none


def neighbour_distances(z: Tensor, k: int = 10) -> Tensor:
    r"""Distance of each row to its k nearest other rows, on the unit sphere, the nearest first.

    .. math:: |x_i - x_{(j)}| = \sqrt{2 - 2 \langle x_i, x_{(j)} \rangle}

    The distance to the k-th is the outlier score of Ramaswamy et al.: from k copies of an outlier on it is no longer
    one, so that k is to be larger than the number of copies that may be there.

    Shape:
        ``(n, d)``, normalised here, to float32 ``(n, k)``.
    Scale:
        0 for a copy, 1.41 for orthogonal rows, 2 for opposite ones.
    Raises:
        ValueError: another shape, k outside 1..n-1, or rows that are not finite.
    Reference:
        S. Ramaswamy, R. Rastogi, K. Shim, Efficient algorithms for mining outliers (SIGMOD 2000).
    """
    x = _unit(z)
    if not 1 <= k < len(x):
        raise ValueError(f"k: got {k}, expected 1 to {len(x) - 1}, the number of other rows")
    cosines, _ = nearest_neighbours(x, x, k, exclude=torch.arange(len(x), device=x.device))
    return chord(cosines)


def typicality(z: Tensor, k: int = 20) -> Tensor:
    r"""How dense the rows lie around each.

    .. math:: \Big(\frac1k \sum_{j=1}^k |x_i - x_{(j)}|\Big)^{-1}

    Shape:
        ``(n, d)``, normalised here, to float32 ``(n,)``; k is at most n - 1, and 1 row has typicality 1.
    Scale:
        at least 1/2; 0.71 where the neighbours are orthogonal, 1e6 for a row with k copies.
    Reference:
        G. Hacohen, A. Dekel, D. Weinshall, Active learning on a budget (ICML 2022, 2202.02794), eq. 4.
    """
    if len(z) == 1:
        return torch.ones(1, device=z.device)
    return 1 / neighbour_distances(z, min(k, len(z) - 1)).mean(1).clamp(min=_FLOOR)


def farthest_first(z: Tensor, k: int, *, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A diverse subset: each next row is the one whose nearest row of those chosen is the farthest (Gonzalez).

    The largest distance of any row to its nearest chosen one is at most twice the smallest that k rows can have.

    Args:
        z: ``(n, d)``, normalised here.
        k: rows to choose, at most as many as are left.
        chosen: rows that are there already, such as labelled ones, and are not returned. Without them the first row
            is the one nearest to the mean direction.
    Returns:
        rows int64 ``(k,)`` in the order of choice, and the distance of each to its nearest row of those before it
        (nan where there is none), which never increases. Of equally far rows the first is taken.
    Raises:
        ValueError: another shape, k out of range, or rows that are not finite.
    Numerics:
        n k d operations; memory n.
    Reference:
        T. F. Gonzalez, Clustering to minimize the maximum intercluster distance (TCS 38, 1985).
    """
    x = _unit(z)
    before = torch.empty(0, dtype=torch.int64) if chosen is None else chosen.to(torch.int64)
    most = len(x) - len(before.unique())
    if not 1 <= k <= most:
        raise ValueError(f"k: got {k}, expected 1 to {most}, the number of rows to choose from")
    nearest = torch.full((len(x),), -torch.inf, device=x.device)
    for row in before.tolist():
        nearest = torch.maximum(nearest, x @ x[row])
    nearest[before] = torch.inf  # never chosen again
    rows: list[int] = []
    cosines: list[float] = []
    for _ in range(k):
        if not rows and not len(before):
            row, cosine = int((x @ x.mean(0)).argmax()), torch.nan
        else:
            row = int(nearest.argmin())
            cosine = float(nearest[row])
        rows.append(row)
        cosines.append(cosine)
        nearest = torch.maximum(nearest, x @ x[row])
        nearest[row] = torch.inf
    return torch.tensor(rows), chord(torch.tensor(cosines))


def typical_rows(z: Tensor, k: int, *, seed: int = 0, neighbours: int = 20) -> tuple[Tensor, Tensor]:
    """A typical subset: of each of k clusters the row with the largest :func:`typicality` within it (TypiClust).

    Returns:
        rows int64, those of large clusters first, and the size of the cluster of each; fewer than k where clusters
        are empty.
    Raises:
        ValueError: another shape, k outside 1..n, or rows that are not finite.
    Reference:
        Hacohen, Dekel, Weinshall, as of :func:`typicality`, section 3.2.
    """
    x = _unit(z)
    assigned, _, _ = kmeans(x, k, seed=seed, restarts=1, max_iterations=30)
    sizes = torch.bincount(assigned, minlength=k)
    rows = []
    for cluster in sizes.argsort(descending=True, stable=True).tolist():
        if sizes[cluster]:
            members = (assigned == cluster).nonzero()[:, 0]
            rows.append(members[typicality(x[members], neighbours).argmax()])
    chosen = torch.stack(rows)
    return chosen, sizes[assigned[chosen]]


def _unit(z: Tensor) -> Tensor:
    """Rows of norm 1 in float32; a zero row stays. Raises: ValueError for another shape or numbers."""
    if z.ndim != 2 or not len(z) or not torch.isfinite(z).all():
        raise ValueError(f"z: got shape {tuple(z.shape)}, expected finite rows (n, d), at least one")
    return functional.normalize(z.detach().float(), dim=1)
