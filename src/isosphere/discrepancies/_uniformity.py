"""The uniformity of Wang and Isola."""

__all__ = ["Uniformity"]

import math

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.reductions import Group, pair_sum


class Uniformity(Discrepancy):
    r"""Logarithm of the mean Gaussian potential of the pairs.

    .. math:: U = \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t |z_i - z_j|^2}

    The logarithm of the U-statistic of an MMD with the von Mises-Fisher kernel of concentration ``2 t``, up to
    an affine map; an upper bound of the KL with that kernel (Jensen).

    *Scale.* 0 at collapse, :math:`-2t + \log {}_0F_1(; d/2; t^2)` for a uniform population (-3.97 at t = 2, d =
    256); always negative otherwise. *Shape.* ``(*views, n, d)`` of unit rows -> ``(*views,)``. *Cost.* O(n^2
    d), one block in memory.

    *Reference.* Wang and Isola, 2005.10242, L_uniform; the regulariser of 2105.00925.
    """

    self_pairs = False

    def __init__(self, t: float = 2.0, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)
        if not t > 0:
            raise ValueError(f"got t={t}, expected a positive number (the papers: 2)")
        self.t = t

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        if n < 2:
            raise ValueError(f"got {n} row(s), expected at least 2: there are no pairs")
        c2 = 2 * self.t

        def potential(c: Tensor) -> Tensor:
            return torch.exp(c2 * (c - 1))

        total = pair_sum(z, potential, lambda c: c2 * potential(c), diagonal=False, group=self.group)
        return total.log() - math.log(n * (n - 1))

    def slope(self, n: int) -> float:
        return 2 * self.t

    def extra_repr(self) -> str:
        return f"t={self.t:g}"
