"""Clusters without labels, and how far they agree with the classes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.reductions import in_float64

_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of n rows, the largest first.

    `assigned` int64 ``(n,)``; `centres` float32 ``(k, d)`` unit rows; `cosines` ``(n,)`` of each row to the centre of
    its cluster; `sizes` int64 ``(k,)``.

    Example:
        >>> found = Clusters(torch.tensor([0, 1, 0]), torch.eye(2), torch.tensor([0.9, 1.0, 1.0]), torch.tensor([2, 1]))
        >>> found.rows(0).tolist()
        [2, 0]
    """

    assigned: Tensor
    centres: Tensor
    cosines: Tensor
    sizes: Tensor

    def rows(self, cluster: int) -> Tensor:
        """Rows of a cluster, those nearest to its centre first."""
        members = (self.assigned == cluster).nonzero()[:, 0]
        return members[self.cosines[members].argsort(descending=True, stable=True)]


def clusters(z: Tensor, k: int, *, seed: int = 0, restarts: int = 4) -> Clusters:
    """Clusters of directions: :func:`kmeans` of the unit rows, without the clusters that stayed empty.

    Shape:
        ``(n, d)``, normalised here.
    Raises:
        ValueError: another shape, non-finite rows or k outside 1..n.
    """
    if z.ndim != 2:
        raise ValueError(f"z: got shape {tuple(z.shape)}, expected (n, d)")
    x = functional.normalize(z.detach().float(), dim=1)
    assigned, centres, _ = kmeans(x, k, seed=seed, restarts=restarts)
    counts = torch.bincount(assigned, minlength=k)
    order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())]
    place = torch.empty(k, dtype=torch.int64, device=x.device)
    place[order] = torch.arange(len(order), device=x.device)
    assigned, centres = place[assigned], functional.normalize(centres[order], dim=1)
    return Clusters(assigned, centres, (x * centres[assigned]).sum(1).clamp(-1, 1), counts[order])


def kmeans(
    x: Tensor, k: int, *, seed: int = 0, restarts: int = 4, max_iterations: int = 100
) -> tuple[Tensor, Tensor, float]:
    """Lloyd's algorithm from k-means++ starts; of several, the one with the smallest sum of squares.

    Args:
        x: ``(n, p)``.
        k: clusters; with fewer distinct rows than that, some are empty.
        seed: of an own generator.
    Returns:
        cluster of each row int64 ``(n,)``, centres ``(k, p)``, and the sum of squared distances to them.
    Raises:
        ValueError: another shape, non-finite rows or k outside 1..n.
    Numerics:
        centred, float32 at least; n k p operations per round, blocked.
    Reference:
        D. Arthur, S. Vassilvitskii, k-means++ (SODA 2007), with 2 + log k candidates for each centre.
    """
    if x.ndim != 2 or not 1 <= k <= len(x):
        raise ValueError(f"x, k: got shape {tuple(x.shape)} and {k}, expected (n, p) and 1 to n")
    rows = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    shift = rows.mean(0)
    if not torch.isfinite(shift).all():
        raise ValueError("x: got non-finite numbers, expected finite ones")
    rows = rows - shift
    generator = torch.Generator().manual_seed(seed)
    best: tuple[Tensor, Tensor, float] | None = None
    for _ in range(restarts):
        centres = _spread_out(rows, k, generator)
        before = None
        for _ in range(max_iterations):
            assigned, squares = _assign(rows, centres)
            if before is not None and torch.equal(assigned, before):
                break
            before = assigned
            counts = torch.bincount(assigned, minlength=k)
            sums = torch.zeros_like(centres).index_add_(0, assigned, rows)
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        assigned, squares = _assign(rows, centres)
        total = float(in_float64(squares).sum())
        if best is None or total < best[2]:
            best = assigned, centres + shift, total
    assert best is not None
    return best


def normalised_mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """Mutual information of two labellings over the mean of their entropies.

    .. math:: \\frac{2 I(a; b)}{H(a) + H(b)}

    Shape:
        int64 ``(n,)`` both, to a float64 number. Rows labelled -1 in either are left out.
    Scale:
        1 if each determines the other, 0 if independent; 1 if both have one class only, nan without rows. Not
        corrected for chance: many small clusters agree a little with anything.
    Raises:
        ValueError: shapes differ.
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a, b: got shapes {tuple(a.shape)} and {tuple(b.shape)}, expected (n,) for both")
    b = b.to(a.device)
    known = (a >= 0) & (b >= 0)
    if not bool(known.any()):
        return torch.tensor(float("nan"), dtype=torch.float64)
    _, first = a[known].unique(return_inverse=True)
    _, second = b[known].unique(return_inverse=True)
    wide = int(second.max()) + 1
    joint = torch.bincount(first * wide + second, minlength=(int(first.max()) + 1) * wide).view(-1, wide)
    joint = in_float64(joint) / len(first)
    entropies = [torch.special.entr(p).sum() for p in (joint.sum(1), joint.sum(0))]
    information = entropies[0] + entropies[1] - torch.special.entr(joint).sum()
    total = entropies[0] + entropies[1]
    return torch.where(total > 0, (2 * information / total).clamp(0, 1), 1.0)


def _spread_out(rows: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Centres drawn with probability proportional to the squared distance from those already there."""
    trials = 2 + max(0, k - 1).bit_length()
    chosen = [rows[int(torch.randint(len(rows), (1,), generator=generator))]]
    nearest = (rows - chosen[0]).square().sum(1)
    for _ in range(k - 1):
        heights = in_float64(nearest).cumsum(0)
        if not heights[-1] > 0:
            chosen.append(rows[0])  # every distinct row is a centre already
            continue
        draws = torch.rand(trials, generator=generator, dtype=torch.float64).to(heights.device) * heights[-1]
        places = torch.searchsorted(heights, draws, right=True).clamp(max=len(rows) - 1).to(rows.device)
        candidates = torch.minimum(nearest, torch.cdist(rows[places], rows).square())
        winner = int(candidates.sum(1).argmin())
        nearest = candidates[winner]
        chosen.append(rows[places[winner]])
    return torch.stack(chosen)


def _assign(rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    assigned, squares = [], []
    half = centres.square().sum(1) / 2
    for block in rows.split(_BLOCK):
        nearest = torch.addmm(half, block, centres.T, alpha=-1).argmin(1)
        assigned.append(nearest)
        squares.append((block - centres[nearest]).square().sum(1))
    return torch.cat(assigned), torch.cat(squares)
