"""Maximum mean discrepancy and kernel Stein discrepancy to the uniform law: one statistic, two spectra."""

__all__ = ["KSD", "MMD"]

from typing import Literal

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._null import NullMoments, pair_skewness
from isosphere.kernels import ZonalKernel, stein
from isosphere.reductions import Group, all_reduce, pair_sum


class MMD(Discrepancy):
    r"""Squared maximum mean discrepancy to the uniform law, scaled so that collapse is 1 and uniform is 0.

    .. math:: D = \frac{1}{1 - p_0} \Big( \frac{1}{n^2} \sum_{i,j} \phi(\langle z_i, z_j \rangle) - p_0 \Big)

    with :math:`\phi(1) = 1` and :math:`p_0` the kernel's mean under the uniform law. ``estimator="u"`` averages over
    the pairs i != j instead (unbiased: 0 in the mean for uniform points, negative values allowed).

    *Scale.* V: from 0 (population) or 1/n (mean over n uniform points) to 1 (all rows equal). *Shape.*
    ``(*views, n, d)`` of unit rows -> ``(*views,)``. *Cost.* O(n^2 d), one block of the Gram matrix in memory;
    for kernels of degree <= 2 and n > d, O(n d^2) by second moments. *Raises* ValueError for n < 2 with the
    U-statistic.

    *Reference.* "Expanding SPHERE-JEPA" (2606.17603), MMD regulariser: its C is ``p_0``, its Z is ``1/p_0``.
    """

    def __init__(self, kernel: ZonalKernel, estimator: Literal["v", "u"] = "v", *, group: Group = None):
        super().__init__(kernel.dim, group=group)
        if estimator not in ("v", "u"):
            raise ValueError(f"got estimator={estimator!r}, expected 'v' (diagonal included) or 'u' (i != j)")
        self.kernel = kernel
        self.estimator = estimator
        self.self_pairs = estimator == "v"
        self._moments = kernel.second_moment_coefficients()

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        if self.estimator == "u" and n < 2:
            raise ValueError(f"got {n} row(s), expected at least 2 for the U-statistic: use estimator='v'")
        if self._moments is not None and n > self.dim:
            value = self._by_moments(z, n)
            return value if self.estimator == "v" else (n * value - 1) / (n - 1)
        total = pair_sum(
            z,
            self.kernel.centred,
            lambda c: self.kernel.centred(c, 1),
            diagonal=self.estimator == "v",
            group=self.group,
        )
        return total / (n * n if self.estimator == "v" else n * (n - 1))

    def _by_moments(self, z: Tensor, n: int) -> Tensor:
        """Degree <= 2: mean P_1 = |m|^2, mean P_2 = d |S - I/d|_F^2 / (d - 1), with moments m and S."""
        assert self._moments is not None
        p0, p1, p2 = self._moments
        d = self.dim
        first = all_reduce(z.sum(-2), self.group) / n
        second = all_reduce(z.mT @ z, self.group) / n
        anisotropy = second - torch.eye(d, dtype=z.dtype, device=z.device) / d
        return (p1 * first.square().sum(-1) + p2 * d / (d - 1) * anisotropy.square().sum((-2, -1))) / (1 - p0)

    def null(self, n: int) -> NullMoments:
        """Exact: the diagonal is constant and distinct pairs are uncorrelated."""
        self._check_null(n)
        pair_variance = self.kernel.pair_variance / (1 - self.kernel.mean) ** 2
        if self.estimator == "u":
            return NullMoments(0.0, (2 * pair_variance / (n * (n - 1))) ** 0.5)
        return NullMoments(1 / n, (2 * (n - 1) * pair_variance / n**3) ** 0.5)

    def skewness(self, n: int) -> float:
        """Exact, by the third moment of the kernel."""
        self._check_null(n)
        return pair_skewness(self.kernel.weights(), self.dim, n)

    def slope(self, n: int) -> float:
        one = torch.ones((), dtype=torch.float64)
        return self.kernel.derivative(one).item() / (1 - self.kernel.mean)

    def extra_repr(self) -> str:
        return f"{self.kernel}, estimator={self.estimator!r}"


class KSD(MMD):
    r"""Kernel Stein discrepancy to the uniform law (score 0), scaled so that collapse is 1 and uniform is 0.

    .. math:: D = \frac{1}{n^2} \sum_{i,j}
              \frac{(c^2 - 1)\,\phi''(c) + (d - 1)\,c\,\phi'(c)}{(d - 1)\,\phi'(1)}, \quad c = \langle z_i, z_j \rangle

    The Stein kernel has weights proportional to :math:`\lambda_l p_l`, no degree 0, and nothing to subtract:
    ``KSD(k)`` **is** ``MMD(stein(k))``. Scale, shapes, cost and errors as for :class:`MMD`.

    *Reference.* "Expanding SPHERE-JEPA" (2606.17603), KSD regulariser; first-order Stein operator of Killing fields.
    """

    def __init__(self, kernel: ZonalKernel, estimator: Literal["v", "u"] = "v", *, group: Group = None):
        super().__init__(stein(kernel), estimator, group=group)
