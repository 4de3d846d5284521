"""Tests of the first two moments, in linear time."""

__all__ = ["Bingham", "Rayleigh", "anisotropy", "square_of_mean"]

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._null import NullMoments, pair_skewness
from isosphere.reductions import Group, all_reduce


def square_of_mean(z: Tensor, n: int, group: Group = False) -> Tensor:
    """``|m|^2``, m the mean of the n rows of all ranks: the mean of ``P_1`` over pairs; ``(*views,)``."""
    return (all_reduce(z.sum(-2), group) / n).square().sum(-1)


def anisotropy(z: Tensor, n: int, group: Group = False) -> Tensor:
    """``|S - I/d|_F^2``, S the uncentred second moments: the mean of ``P_2`` times (d - 1)/d; ``(*views,)``."""
    d = z.shape[-1]
    second = all_reduce(z.mT @ z, group) / n
    return (second - torch.eye(d, dtype=z.dtype, device=z.device) / d).square().sum((-2, -1))


class Rayleigh(Discrepancy):
    r"""Rayleigh's test of uniformity: is the mean zero?

    .. math:: R = n\, d\, |\bar z|^2

    The n-weighted MMD of the degree-1 harmonics alone.

    Args:
        dim: ambient dimension d; None: any.
        group: the ranks whose rows are the sample.

    Scale:
        Chi-squared with d degrees of freedom under the uniform law, in the limit; its mean d and variance
        2 d (n-1)/n are exact. ``n d`` at collapse.
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n d).
    Raises:
        ValueError: z of another dimension.
    Reference:
        Mardia and Jupp, Directional Statistics, section 10.4.1.

    Example:
        >>> Rayleigh()(torch.eye(4)[:1].expand(10, 4)).item()  # collapse: n d
        40.0
    """

    def __init__(self, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        return n * z.shape[-1] * square_of_mean(z, n, self.group)

    def reference(self, z: Tensor) -> Tensor:
        n, d = z.shape[-2:]
        return n * d * z.mean(-2).square().sum(-1)

    def null(self, n: int) -> NullMoments:
        self._check_null(n)
        d = self.dim
        return NullMoments(float(d), (2 * d * (n - 1) / n) ** 0.5)

    def skewness(self, n: int) -> float:
        self._check_null(n)
        return pair_skewness(torch.tensor([0.0, 1.0], dtype=torch.float64), self.dim, n)

    def slope(self, n: int) -> float:
        return float(n * self.dim)


class Bingham(Discrepancy):
    r"""Bingham's test of uniformity: is the second-moment matrix a multiple of the identity?

    .. math:: B = n\, \frac{d(d+2)}{2} \Big| S - \frac{I}{d} \Big|_F^2, \quad S = \frac1n \sum_i z_i z_i^T

    The n-weighted MMD of the degree-2 harmonics alone.

    Args:
        dim: ambient dimension d; None: any.
        group: the ranks whose rows are the sample.

    Scale:
        Chi-squared with (d-1)(d+2)/2 degrees of freedom under the uniform law for n much larger than d; mean df and
        variance 2 df (n-1)/n are exact. ``n (d+2)(d-1)/2`` at collapse.
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n d^2), no n x n.
    Raises:
        ValueError: z of another dimension.
    Reference:
        Mardia and Jupp, Directional Statistics, section 10.7.1.

    Example:
        >>> Bingham()(torch.eye(4)).item()  # an orthonormal basis has no preferred axis
        0.0
    """

    def __init__(self, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)

    def _statistic(self, z: Tensor) -> Tensor:
        n, d = self.count(z), z.shape[-1]
        return n * d * (d + 2) / 2 * anisotropy(z, n, self.group)

    def reference(self, z: Tensor) -> Tensor:
        n, d = z.shape[-2:]
        s = z.mT @ z / n
        return n * d * (d + 2) / 2 * (s - torch.eye(d).to(s) / d).square().sum((-2, -1))

    def null(self, n: int) -> NullMoments:
        self._check_null(n)
        freedom = (self.dim - 1) * (self.dim + 2) / 2
        return NullMoments(freedom, (2 * freedom * (n - 1) / n) ** 0.5)

    def skewness(self, n: int) -> float:
        self._check_null(n)
        return pair_skewness(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), self.dim, n)

    def slope(self, n: int) -> float:
        return float(n * self.dim * (self.dim + 2))
