"""Redundancy reduction: the coordinates of the embedding vary, and no two of them together."""

__all__ = ["VICReg", "BarlowTwins"]

import torch
from torch import Tensor, nn

from isosphere.methods.base import Loss, Method
from isosphere.methods.pairs import row_total, squared_distance, undirected_pairs
from isosphere.reductions import Group, all_reduce, full_precision

_NO_SLOPE = "none: embeddings are not on the sphere, and the push away from collapse is {push}"


def _centred(z: Tensor, group: Group) -> tuple[Tensor, int]:
    """Rows of every view minus their mean over all ranks, and the number of rows over all ranks."""
    n = row_total(z, group)
    if n < 2:
        raise ValueError(f"got {n} row(s), expected at least 2: there is no variance")
    return z - all_reduce(z.sum(1, keepdim=True), group) / n, n


def _off_diagonal_square(c: Tensor) -> Tensor:
    """Sum of the squares off the diagonal; ``(*, d, d)`` -> ``(*)``."""
    return (c - torch.diag_embed(c.diagonal(dim1=-2, dim2=-1))).square().sum((-2, -1))


class VICReg(Method):
    r"""Invariance of the views, variance of each coordinate held above 1, covariance of any two pushed to 0.

    .. math:: \mathcal L = \lambda\, \frac{1}{|P|} \sum_{(g, v) \in P} \frac{1}{n d} \sum_i |z_{gi} - z_{vi}|^2
              + \mu\, \frac1V \sum_v \frac1d \sum_k \max\big(0, 1 - \sqrt{C^v_{kk} + \epsilon}\big)
              + \nu\, \frac2V \sum_v \frac1d \sum_{k \ne l} (C^v_{kl})^2

    with the unbiased covariance :math:`C^v` of the rows of a view; P: a global view with each other view. Embeddings
    are not normalised. Two views: the published code (in the paper's text the variance term is summed over the two
    views, in its code averaged, so that its :math:`\mu = 25` weighs half as much; the covariance term is summed).

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``; published head ``ProjectionHead(2048, 8192, 8192,
            layers=3)``.
        invariance, variance, covariance: lambda, mu, nu (published 25, 25, 1). eps: inside the root (published 1e-4).
        global_views: how many of the views are global.

    *Scale.* At collapse invariance and covariance are 0, variance ``1 - sqrt(eps)`` and the total ``mu`` times it.
    *Parts*: ``invariance`` (averaged over dimensions; 2 for unrelated views of unit variance), ``variance``,
    ``covariance``, unweighted. *Cost.* O(n d^2), one d x d matrix a view.

    *Reference.* Bardes, Ponce and LeCun, 2105.04906, equations 1 to 6.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        eps: float = 1e-4,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        for name, value in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
            if value < 0:
                raise ValueError(
                    f"got {name}={value}, expected a weight of at least 0 (published: 25, 25, 1)"
                )
        if invariance == variance == covariance == 0:
            raise ValueError("got weights of 0 alone, expected one that is positive (published: 25, 25, 1)")
        if not eps > 0:
            raise ValueError(f"got eps={eps}, expected a small positive number (published: 1e-4)")
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.eps = eps

    def combine(self, *outputs: Tensor) -> Loss:
        return self.loss(*outputs)

    def loss(self, z: Tensor) -> Loss:
        """The loss of embeddings ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            d, invariance = z.shape[-1], z.new_zeros(())
            rows, n = _centred(z, self.group)
            for a, b, share in undirected_pairs(self.global_views, len(z)):
                invariance = invariance + share * squared_distance(z[a], z[b], n, self.group) / d
            moments = all_reduce(rows.mT @ rows, self.group) / (n - 1)
            deviation = (moments.diagonal(dim1=1, dim2=2) + self.eps).sqrt()
            variance = (1 - deviation).relu().mean()
            covariance = 2 * _off_diagonal_square(moments).mean() / d
            total = self.invariance * invariance + self.variance * variance + self.covariance * covariance
        parts = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    @property
    def spread_setting(self) -> tuple[str, float] | None:
        return "method.options.variance", self.variance

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "weights": f"invariance {self.invariance:g}, variance {self.variance:g}, covariance {self.covariance:g}",
            "expansion ratio": _NO_SLOPE.format(push="that of a hinge on each coordinate's deviation"),
        }


class BarlowTwins(Method):
    r"""The cross-correlation matrix of the coordinates of two views is pushed to the identity.

    .. math:: \mathcal L = \frac{1}{|P|} \sum_{(g, v) \in P} \Big[ \sum_k (1 - C^{gv}_{kk})^2 +
              \lambda \sum_{k \ne l} (C^{gv}_{kl})^2 \Big], \qquad
              C^{gv}_{kl} = \frac1n \sum_i \hat z_{gik}\, \hat z_{vil}

    with coordinates :math:`\hat z` standardised over the batch of a view (biased variance plus 1e-5, as batch norm
    does); P: a global view with each other view.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``; published head ``ProjectionHead(2048, 8192, 8192,
            layers=3)``.
        weight: lambda, of the redundancy term (published .0051; not a share: the invariance term keeps weight 1).
        global_views: how many of the views are global.

    *Scale.* d at collapse; for unrelated views the invariance term is about d. *Parts*: ``invariance`` (diagonal),
    ``redundancy`` (off the diagonal, unweighted). *Cost.* O(n d^2) a pair of views.

    *Reference.* Zbontar et al., 2103.03230, equations 1 and 2.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, weight: float = 0.0051, global_views: int = 2):
        super().__init__(encoder, head, global_views)
        if not weight >= 0:
            raise ValueError(f"got weight={weight}, expected at least 0 (published: 0.0051)")
        self.weight = weight

    def combine(self, *outputs: Tensor) -> Loss:
        return self.loss(*outputs)

    def loss(self, z: Tensor) -> Loss:
        """The loss of embeddings ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            rows, n = _centred(z, self.group)
            spread = all_reduce(rows.square().sum(1, keepdim=True), self.group) / n
            standard = rows * torch.rsqrt(spread + 1e-5)
            invariance, redundancy = z.new_zeros(2).unbind()
            for a, b, share in undirected_pairs(self.global_views, len(z)):
                correlation = all_reduce(standard[a].mT @ standard[b], self.group) / n
                invariance = invariance + share * (1 - correlation.diagonal()).square().sum()
                redundancy = redundancy + share * _off_diagonal_square(correlation)
            total = invariance + self.weight * redundancy
        return Loss(total, {"invariance": invariance.detach(), "redundancy": redundancy.detach()})

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "weight": f"{self.weight:g} of the redundancy, 1 of the invariance",
            "expansion ratio": _NO_SLOPE.format(
                push="standardisation: a constant coordinate cannot correlate"
            ),
        }
