"""Maximum mean discrepancy and kernel Stein discrepancy to the uniform law: one statistic, two spectra."""

__all__ = ["KSD", "MMD"]

from typing import Literal

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._moments import anisotropy, square_of_mean
from isosphere.discrepancies._null import NullMoments, pair_skewness
from isosphere.kernels import ZonalKernel, stein
from isosphere.reductions import Group, pair_mean


class _KernelMean(Discrepancy):
    """Mean of a centred kernel over the pairs, what MMD and KSD are.

    ``kernel`` is the kernel that is averaged; its weights above degree 0 are all that matters.
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
        if self._moments is not None and (n := self.count(z)) > self.dim:
            value = self._by_moments(z, n)
            return value if self.self_pairs else (n * value - 1) / (n - 1)
        kernel, pairs = self.kernel, {"diagonal": self.self_pairs, "group": self.group}
        return pair_mean(z, kernel.centred, series=kernel.centred_series, **pairs)

    def _by_moments(self, z: Tensor, n: int) -> Tensor:
        """Degree <= 2: the mean of P_1 is |m|^2, that of P_2 is d |S - I/d|_F^2 / (d - 1)."""
        assert self._moments is not None
        p0, p1, p2 = self._moments
        d = self.dim
        first, second = square_of_mean(z, n, self.group), anisotropy(z, n, self.group)
        return (p1 * first + p2 * d / (d - 1) * second) / (1 - p0)

    def _mean_of_pairs(self, values: Tensor) -> Tensor:
        """For :meth:`reference`: the mean of a matrix over all of it, or without its diagonal."""
        n, total = values.shape[-1], values.sum((-2, -1))
        own = values.diagonal(dim1=-2, dim2=-1).sum(-1)
        return total / n**2 if self.self_pairs else (total - own) / (n * (n - 1))

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
        return self.kernel.centred(torch.ones((), dtype=torch.float64), 1).item()

    def extra_repr(self) -> str:
        return f"{self.kernel}, estimator={self.estimator!r}"


class MMD(_KernelMean):
    r"""Squared maximum mean discrepancy to the uniform law, scaled so that collapse is 1 and uniform is 0.

    .. math:: D = \frac{1}{1 - p_0} \Big( \frac{1}{n^2} \sum_{i,j} \phi(\langle z_i, z_j \rangle) - p_0 \Big)

    with :math:`\phi(1) = 1` and :math:`p_0` the kernel's mean under the uniform law.

    Args:
        kernel: :math:`\phi`, for unit rows of its dimension.
        estimator: ``"v"`` as above; ``"u"`` averages over the pairs i != j instead (unbiased: 0 in the mean for
            uniform points, negative values allowed).
        group: the ranks whose rows are the sample.

    Scale:
        V: from 0 (population) or 1/n (mean over n uniform points) to 1 (all rows equal).
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n^2 d), one block of the Gram matrix in memory; for
        kernels of degree <= 2 and n > d, O(n d^2) by second moments.
    Raises:
        ValueError: n < 2 with the U-statistic; z of another dimension than the kernel's.
    Reference:
        "Expanding SPHERE-JEPA" (2606.17603), MMD regulariser: its C is ``p_0``, its Z is ``1/p_0``.

    Example:
        >>> from isosphere.kernels import HeatKernel
        >>> collapsed = torch.eye(8)[:1].expand(20, 8)
        >>> round(MMD(HeatKernel(8))(collapsed).item(), 4)
        1.0
    """

    def reference(self, z: Tensor) -> Tensor:
        phi, p0 = self.kernel, self.kernel.mean
        c = z @ z.mT
        return self._mean_of_pairs((phi(c) - p0) / (1 - p0))


class KSD(_KernelMean):
    r"""Kernel Stein discrepancy to the uniform law (score 0), scaled so that collapse is 1 and uniform is 0.

    .. math:: D = \frac{1}{n^2} \sum_{i,j}
              \frac{(c^2 - 1)\,\phi''(c) + (d - 1)\,c\,\phi'(c)}{(d - 1)\,\phi'(1)}, \quad c = \langle z_i, z_j \rangle

    The Stein kernel has weights proportional to :math:`\lambda_l p_l`, no degree 0, and nothing to subtract:
    ``KSD(k)`` **is** ``MMD(stein(k))``, and ``KSD(k).kernel`` is ``stein(k)``.

    Args:
        kernel: :math:`\phi`, for unit rows of its dimension.
        estimator: ``"v"`` as above; ``"u"``: over the pairs i != j.
        group: the ranks whose rows are the sample.

    Scale, Shape, Raises:
        As :class:`MMD`.

    Reference:
        "Expanding SPHERE-JEPA" (2606.17603), KSD regulariser; first-order Stein operator of Killing fields.

    Example:
        >>> from isosphere.kernels import HeatKernel, stein
        >>> z = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
        >>> bool(KSD(HeatKernel(8))(z) == MMD(stein(HeatKernel(8)))(z))
        True
    """

    def __init__(self, kernel: ZonalKernel, estimator: Literal["v", "u"] = "v", *, group: Group = None):
        super().__init__(stein(kernel), estimator, group=group)
        self.base = kernel

    def reference(self, z: Tensor) -> Tensor:
        phi, d = self.base.derivative, self.dim
        c = z @ z.mT
        stein_of = (c**2 - 1) * phi(c, 2) + (d - 1) * c * phi(c, 1)
        return self._mean_of_pairs(stein_of / ((d - 1) * phi(torch.ones_like(c), 1)))
