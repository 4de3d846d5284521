"""How many pairs of rows lie close together by chance: the law of small distances."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.reductions import inner_product_blocks
from isosphere.sphere import chord

SAMPLE = 2000
"""Rows whose distances to all others are looked at."""
FEWEST = 30
"""Pairs that a law is fitted to, at the least."""
_WANTED = 1000
_SPARSE = 0.05
"""Share of all pairs from which on they are no longer close: the law bends, and ends at all of them."""
_REACH = math.log(1.5)  # the least ratio of the two ends of the distances that are fitted, in logarithms
_BINS = 2048


@dataclass(frozen=True)
class PairLaw:
    r"""Number of pairs within a distance r on the unit sphere, for small r.

    .. math:: N(r) = N_0 \, (r / r_0)^m, \qquad r = \sqrt{2 - 2c}

    `pairs` in all, `beyond` and `reach` the distances between which it was fitted, `count` = N_0 at `reach`,
    `dimension` = m, `observed` pairs of the sample that it rests on.

    Example:
        >>> law = PairLaw(pairs=1e6, beyond=0.1, reach=0.5, count=100.0, dimension=10.0, observed=100)
        >>> round(law.expected(law.cosine(2.0)), 6)
        2.0
    """

    pairs: float
    beyond: float
    reach: float
    count: float
    dimension: float
    observed: int

    def expected(self, cosine: float) -> float:
        """Pairs to be expected with at least this cosine."""
        return min(self.pairs, self.count * (_chord(cosine) / self.reach) ** self.dimension)

    def cosine(self, expected: float) -> float:
        """The cosine from which on so many pairs are to be expected."""
        return 1 - (self.reach * (expected / self.count) ** (1 / self.dimension)) ** 2 / 2


def _chord(cosine: float) -> float:
    return float(chord(torch.tensor(cosine, dtype=torch.float64)))


def pair_law(z: Tensor, beyond: float, *, sample: int = SAMPLE, seed: int = 0) -> PairLaw | None:
    r"""The law of the pairs of rows that are no copies of each other, fitted to pairs with a cosine below `beyond`.

    Where the rows have a density on a set of dimension m, the number of pairs within r grows as r^m (the correlation
    integral of Grassberger and Procaccia). Copies are an excess over this law at small distances; beyond them it is
    fitted, by maximum likelihood with the distances truncated at both ends, and continued to where the copies are. The
    reach is the smallest that holds 1,000 pairs, and half as far again as `beyond`; but where it would hold more than a
    twentieth of all pairs, which is no longer close, it is that of a twentieth, and what is fitted begins at two thirds
    of it.

    Args:
        z: ``(n, d)``, normalised here.
        beyond: the cosine from which on pairs may be copies.
        sample: rows whose distances to all others are counted, drawn by `seed`.
    Returns:
        None of fewer than 30 pairs.
    Raises:
        ValueError: another shape, or `beyond` outside (-1, 1).
    Numerics:
        sample n d operations. Distances are counted in 2,048 bins of equal ratio, 1e-3 to 2.
    Reference:
        P. Grassberger, I. Procaccia, Measuring the strangeness of strange attractors (Physica D 9, 1983); the maximum
        likelihood of m is Takens' (1985).
    """
    if z.ndim != 2 or not -1 < beyond < 1:
        raise ValueError(f"z, beyond: got shape {tuple(z.shape)} and {beyond}, expected (n, d) and a cosine")
    x = functional.normalize(z.detach().float(), dim=1)
    n = len(x)
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:sample].sort().values
    low, high = math.log(1e-3), math.log(2.0)
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for here, cosines in inner_product_blocks(x[chosen], x):
        cosines[torch.arange(len(cosines)), chosen[here]] = -1.0  # itself
        logs = chord(cosines).clamp(min=1e-6).log()
        bins = ((logs - low) / (high - low) * _BINS).long().clamp(0, _BINS - 1)
        counts += torch.bincount(bins.flatten().cpu(), minlength=_BINS)
    counts[-1] = (counts[-1] - len(chosen)).clamp(min=0)  # each row to itself
    edges = low + (high - low) * torch.arange(_BINS + 1, dtype=torch.float64) / _BINS
    first = int(torch.searchsorted(edges, math.log(max(1e-3, _chord(beyond)))))
    if int(counts[first:].sum()) < FEWEST:
        return None
    first = min(first, _nearer(counts, edges))
    within = counts[first:].cumsum(0)
    enough = int((within >= min(_WANTED, int(within[-1]))).nonzero()[0])
    far = int(torch.searchsorted(edges[first:], float(edges[first]) + _REACH)) - 1
    last = first + min(max(enough, far), len(within) - 1)
    last = min(last, max(first, _sparse(counts)))
    seen, observed = counts[first : last + 1].double(), int(counts[first : last + 1].sum())
    span = float(edges[last + 1] - edges[first])
    middles = (edges[first : last + 1] + edges[first + 1 : last + 2]) / 2
    mean = float((seen * (edges[last + 1] - middles)).sum())
    dimension = _truncated_rate(mean / observed, span)
    pairs, share = n * (n - 1) / 2, n / (2 * len(chosen))
    whole = observed * share / -math.expm1(-dimension * span)
    ends = (math.exp(float(edges[first])), math.exp(float(edges[last + 1])))
    return PairLaw(pairs, *ends, whole, dimension, observed)


def _sparse(counts: Tensor) -> int:
    """The last bin up to which pairs are few among all, and not too few to be fitted."""
    few = max(_SPARSE * float(counts.sum()), 2.0 * FEWEST)
    return min(int((counts.cumsum(0) < few).sum()), len(counts) - 1)


def _nearer(counts: Tensor, edges: Tensor) -> int:
    """The last bin from which on a law can be fitted to pairs that are few."""
    end = float(edges[_sparse(counts) + 1]) - _REACH
    return max(0, int(torch.searchsorted(edges, end)) - 1)


def _truncated_rate(mean: float, span: float) -> float:
    r"""The rate m of an exponential law on [0, span] with this mean, :math:`1/m - s / (e^{ms} - 1)`; at least 0.1."""

    def excess(rate: float) -> float:
        return 1 / rate - span / math.expm1(min(rate * span, 700.0)) - mean

    low, high = 0.1, 1e4  # the mean falls with the rate
    if excess(low) <= 0:
        return low
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low
