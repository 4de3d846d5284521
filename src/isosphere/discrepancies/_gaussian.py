"""Kernel discrepancies to the standard normal law, of free embeddings: KerJEPA's MMD and Stein discrepancy."""

__all__ = ["GaussianKSD", "GaussianMMD"]

from typing import Literal

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.reductions import Group, row_counts, rows_of_all


class _GaussianPairs(Discrepancy):
    """A mean over the pairs of all rows; every rank computes all of them."""

    space = "euclidean"

    def __init__(self, dim: int, gamma: float | None, estimator: Literal["v", "u"], *, group: Group = None):
        super().__init__(dim, group=group)
        gamma = 1 / (2 * dim) if gamma is None else gamma
        if not gamma > 0:
            raise ValueError(f"got gamma={gamma}, expected a positive number, e.g. {1 / (2 * dim):g}")
        if estimator not in ("v", "u"):
            raise ValueError(f"got estimator={estimator!r}, expected 'v' (diagonal included) or 'u' (i != j)")
        self.gamma, self.estimator, self.self_pairs = gamma, estimator, estimator == "v"

    def _statistic(self, z: Tensor) -> Tensor:
        counts = row_counts(z.shape[-2], z.device, self.group)
        if sum(counts) < 2 and not self.self_pairs:
            raise ValueError(
                f"got {sum(counts)} row(s), expected at least 2: a U-statistic is of pairs i != j"
            )
        return self.reference(rows_of_all(z, counts, self.group))

    def _mean_of_pairs(self, values: Tensor) -> Tensor:
        n, total = values.shape[-1], values.sum((-2, -1))
        own = values.diagonal(dim1=-2, dim2=-1).sum(-1)
        return total / n**2 if self.self_pairs else (total - own) / (n * (n - 1))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, gamma={self.gamma:g}, estimator={self.estimator!r}"


def _products(z: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products and squared distances of the pairs of rows."""
    products = z @ z.mT
    squares = products.diagonal(dim1=-2, dim2=-1)
    return products, (squares[..., :, None] + squares[..., None, :] - 2 * products).clamp_min(0)


class GaussianMMD(_GaussianPairs):
    r"""Squared maximum mean discrepancy to N(0, I) with a Gaussian kernel, in closed form (the BHEP statistic).

    .. math:: D = \frac{1}{n^2} \sum_{ij} e^{-\gamma |z_i - z_j|^2}
              - \frac{2\,(1 + 2\gamma)^{-d/2}}{n} \sum_i e^{-\gamma |z_i|^2 / (1 + 2\gamma)} + (1 + 4\gamma)^{-d/2}

    Args:
        dim: dimension d of the embeddings.
        gamma: of the kernel; None: 1/(2 d), at which it is 1/e for two typical points of N(0, I) (this library's own).
        estimator: ``"v"`` as above; ``"u"``: the first mean over the pairs i != j (unbiased).
        group: the ranks whose rows are the sample.

    Scale:
        0 for a normal population, below 2; ``slope`` is per half the mean squared distance of pairs, at the origin.
    Shape:
        ``(*views, n, d)`` of free rows to ``(*views,)``. O(n^2 d), and n x n numbers are kept for the backward pass.
    Raises:
        ValueError: a gamma that is not positive, another estimator, fewer than two rows with ``"u"``.
    Reference:
        KerJEPA (2512.19605), theorem 8: the unsliced MMD with a Gaussian kernel and prior; SIGReg is the same with the
        kernel that slicing makes of it (theorem 7).

    Example:
        >>> round(GaussianMMD(4)(torch.zeros(5, 4)).item(), 4)  # all rows at the origin
        0.1644
    """

    def __init__(
        self,
        dim: int,
        gamma: float | None = None,
        estimator: Literal["v", "u"] = "v",
        *,
        group: Group = None,
    ):
        super().__init__(dim, gamma, estimator, group=group)

    def reference(self, z: Tensor) -> Tensor:
        d, g = self.dim, self.gamma
        pairs = self._mean_of_pairs(torch.exp(-g * _products(z)[1]))
        to_target = torch.exp(-g / (1 + 2 * g) * z.square().sum(-1)).mean(-1)
        return pairs - 2 * (1 + 2 * g) ** (-d / 2) * to_target + (1 + 4 * g) ** (-d / 2)

    def slope(self, n: int) -> float:
        g, d = self.gamma, self.dim
        own = 1.0 if self.self_pairs else (n - 1) / n
        return 2 * g - 2 * own * g * (1 + 2 * g) ** (-d / 2 - 1)


class GaussianKSD(_GaussianPairs):
    r"""Kernel Stein discrepancy to N(0, I), with the inverse multiquadric or the Gaussian kernel.

    .. math:: D = \frac{1}{n^2} \sum_{ij} \langle z_i, z_j \rangle\, \psi + 2 r^2 \psi' - 2 d\, \psi' - 4 r^2 \psi'',
              \quad r^2 = |z_i - z_j|^2

    with the kernel :math:`\psi(r^2)`: :math:`(1 + \gamma r^2)^{-1/2}`, or :math:`e^{-\gamma r^2}`. It is the Langevin
    Stein kernel for the score :math:`-z`, which needs no sample and no mean of the target.

    Args:
        dim: dimension d of the embeddings.
        gamma: of the kernel; None: 1/(2 d) (this library's own).
        kernel: ``"imq"``, the best of the paper's, or ``"gaussian"``.
        estimator: ``"v"`` as above; ``"u"``: over the pairs i != j (0 in the mean for normal points).
        group: the ranks whose rows are the sample.

    Scale:
        0 for a normal population; the diagonal alone gives about (d + 1)/n of a V-statistic. At the origin
        ``-2 d psi'(0)``; ``slope`` is per half the mean squared distance of pairs, there.
    Shape, Raises:
        As :class:`GaussianMMD`; another kernel.

    Reference:
        KerJEPA (2512.19605), the unsliced KSD (91.90 on Imagenette with ``"imq"``); Liu, Lee and Jordan, ICML 2016.

    Example:
        >>> round(GaussianKSD(4)(torch.zeros(5, 4)).item(), 4)  # 2 d gamma / 2
        0.5
    """

    def __init__(
        self,
        dim: int,
        gamma: float | None = None,
        kernel: Literal["imq", "gaussian"] = "imq",
        estimator: Literal["v", "u"] = "v",
        *,
        group: Group = None,
    ):
        super().__init__(dim, gamma, estimator, group=group)
        if kernel not in ("imq", "gaussian"):
            raise ValueError(f"got kernel={kernel!r}, expected 'imq' or 'gaussian'")
        self.kernel = kernel

    def _profile(self, square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The kernel and two derivatives by the squared distance."""
        g = self.gamma
        if self.kernel == "gaussian":
            value = torch.exp(-g * square)
            return value, -g * value, g**2 * value
        base = 1 + g * square
        return base**-0.5, -g / 2 * base**-1.5, 0.75 * g**2 * base**-2.5

    def reference(self, z: Tensor) -> Tensor:
        products, square = _products(z)
        value, first, second = self._profile(square)
        stein = products * value + 2 * square * first - 2 * self.dim * first - 4 * square * second
        return self._mean_of_pairs(stein)

    def slope(self, n: int) -> float:
        _, first, second = (x.item() for x in self._profile(torch.zeros((), dtype=torch.float64)))
        return 4 * ((self.dim + 2) * second - first) + (0.0 if self.self_pairs else 1 / n)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel!r}"
