"""Tests of the first two moments, in linear time."""

__all__ = ["Bingham", "Rayleigh"]

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._null import NullMoments, pair_skewness
from isosphere.reductions import Group, all_reduce


class Rayleigh(Discrepancy):
    r"""Rayleigh's test of uniformity: is the mean zero?

    .. math:: R = n\, d\, |\bar z|^2

    The n-weighted MMD of the degree-1 harmonics alone. *Scale.* Chi-squared with d degrees of freedom under the
    uniform law, in the limit; its mean d and variance 2 d (n-1)/n are exact. ``n d`` at collapse. *Shape.*
    ``(*views, n, d)`` of unit rows -> ``(*views,)``. *Cost.* O(n d).

    *Reference.* Mardia and Jupp, Directional Statistics, section 10.4.1.
    """

    def __init__(self, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        return z.shape[-1] / n * all_reduce(z.sum(-2), self.group).square().sum(-1)

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

    The n-weighted MMD of the degree-2 harmonics alone. *Scale.* Chi-squared with (d-1)(d+2)/2 degrees of
    freedom under the uniform law for n much larger than d; mean df and variance 2 df (n-1)/n are exact.
    *Shape.* ``(*views, n, d)`` of unit rows -> ``(*views,)``. *Cost.* O(n d^2), no n x n.

    *Reference.* Mardia and Jupp, Directional Statistics, section 10.7.1.
    """

    def __init__(self, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)

    def _statistic(self, z: Tensor) -> Tensor:
        n, d = self.count(z), z.shape[-1]
        second = all_reduce(z.mT @ z, self.group) / n
        anisotropy = second - torch.eye(d, dtype=z.dtype, device=z.device) / d
        return n * d * (d + 2) / 2 * anisotropy.square().sum((-2, -1))

    def null(self, n: int) -> NullMoments:
        self._check_null(n)
        freedom = (self.dim - 1) * (self.dim + 2) / 2
        return NullMoments(freedom, (2 * freedom * (n - 1) / n) ** 0.5)

    def skewness(self, n: int) -> float:
        self._check_null(n)
        return pair_skewness(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), self.dim, n)

    def slope(self, n: int) -> float:
        return float(n * self.dim * (self.dim + 2))
