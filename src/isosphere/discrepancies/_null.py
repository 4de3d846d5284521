"""What a statistic is worth when there is nothing to find: moments, tail, and their simulation."""

__all__ = ["NullMoments", "pair_skewness", "sample_skewness", "upper_tail"]

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from isosphere.reductions import in_float64
from isosphere.sphere import gegenbauer_sum, log_harmonic_dimensions, marginal_quadrature

_NODES = 512
"""Beyond as many quadrature nodes the third moment of a kernel gains nothing."""


class NullMoments(NamedTuple):
    """Moments of a statistic under n uniform points; ``error`` is the standard error of the mean (0: exact)."""

    mean: float
    std: float
    error: float = 0.0


def upper_tail(x: Tensor, skewness: float) -> Tensor:
    r"""Probability that a standardised statistic exceeds ``x``: a shifted gamma law of the same three moments.

    .. math:: P(X > x) = Q\big(k,\; k + x \sqrt k\big), \quad k = 4 / \gamma^2

    with Q the regularised upper incomplete gamma function and :math:`\gamma` the skewness; mirrored where it is
    negative, normal where it is zero. (Pearson's type III; for a weighted sum of chi-squares of equal weights it
    is exact, and then it is Welch and Satterthwaite's.) float64, elementwise.
    """
    x = in_float64(x)
    if abs(skewness) < 1e-3:
        return torch.special.erfc(x / math.sqrt(2)) / 2
    shape = torch.full_like(x, 4 / skewness**2)
    argument = (shape + math.copysign(1, skewness) * x * shape.sqrt()).clamp(min=0)
    tail = torch.special.gammaincc if skewness > 0 else torch.special.gammainc
    return tail(shape, argument)


def pair_skewness(weights: Tensor, dim: int, n: int) -> float:
    r"""Skewness of a sum over pairs of a zonal kernel's degrees above 0, for n uniform points; exact.

    .. math:: E\Big(\sum_{i \ne j} h\Big)^3 = 8 n (n-1)(n-2) \sum_{l \ge 1} \frac{p_l^3}{N_l^2} + 4 n (n-1) E h^3,
              \quad E\Big(\sum_{i \ne j} h\Big)^2 = 2 n (n-1) \sum_{l \ge 1} \frac{p_l^2}{N_l}

    The diagonal is constant: V- and U-statistics share it. ``weights`` are ``p_l``, float64 ``(L + 1,)``.
    """
    squares, cubes, third = _pair_sums(tuple(weights.tolist()), dim)
    pairs = n * (n - 1)
    return (8 * pairs * (n - 2) * cubes + 4 * pairs * third) / (2 * pairs * squares) ** 1.5


@lru_cache(maxsize=64)
def _pair_sums(weights: tuple[float, ...], dim: int) -> tuple[float, float, float]:
    """``sum p^2/N``, ``sum p^3/N^2`` over degrees above 0, and ``E h^3`` by quadrature."""
    p = torch.tensor(weights, dtype=torch.float64)
    p[0] = 0
    sizes = torch.exp(log_harmonic_dimensions(len(p) - 1, dim))
    points, rule = marginal_quadrature(dim, min(_NODES, 3 * len(p) // 2 + 1))
    third = (rule * gegenbauer_sum(points, p, dim) ** 3).sum().item()
    return (p**2 / sizes).sum().item(), (p * (p / sizes) ** 2).sum().item(), third


def sample_skewness(values: Tensor) -> float:
    """Skewness of simulated values; 0 where it is within two standard errors of that."""
    centred = values - values.mean()
    skewness = (centred**3).mean().item() / (centred**2).mean().item() ** 1.5
    return skewness if abs(skewness) > 2 * math.sqrt(6 / len(values)) else 0.0
