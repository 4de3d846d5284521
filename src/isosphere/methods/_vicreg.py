"""VICReg: the coordinates of the embedding vary, and no two of them together."""

__all__ = ["VICReg"]

from typing import Any

from torch import Tensor, nn

from isosphere.methods._base import Loss, Regularised
from isosphere.methods._moments import NO_SLOPE, centred, off_diagonal_square
from isosphere.methods._pairs import squared_distance, undirected_pairs
from isosphere.methods._registry import method
from isosphere.methods._regulariser import Discrepant, Pull, Regulariser
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import all_reduce, full_precision


class VICReg(Regularised):
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
        invariance, variance, covariance: lambda, mu, nu (published 25, 25, 1).
        eps: inside the root (published 1e-4).
        regulariser: a further one, :math:`(1 - w) \mathcal L + w\, \frac1V \sum_v D(z_v)`, on the sphere of the
            directions :math:`z/|z|`; its balanced weight is that against the invariance.
        global_views: how many of the views, the first ones, are global.

    Scale:
        At collapse invariance and covariance are 0, variance ``1 - sqrt(eps)`` and the total ``mu`` times it.
        O(n d^2), one d x d matrix a view.
    Parts:
        ``invariance`` (averaged over dimensions; 2 for unrelated views of unit variance), ``variance``,
        ``covariance``, unweighted.
    Reference:
        Bardes, Ponce and LeCun, 2105.04906, equations 1 to 6.

    Example:
        >>> collapsed = torch.zeros(2, 5, 4)  # two views of five images
        >>> round(VICReg(torch.nn.Identity(), torch.nn.Identity()).loss(collapsed).total.item(), 4)
        24.75
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
        regulariser: Regulariser | None = None,
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
        self.eps, self.regulariser = eps, regulariser

    @method("vicreg", paper="VICReg, arXiv 2105.04906", summary="invariance, variance and covariance")
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int = 1024,
        hidden: int = 1024,
        regulariser: Discrepant | None = None,
        weight: float | None = None,
        **options: Any,
    ) -> "VICReg":
        """Published widths 8192-8192-8192."""
        held = Regulariser.of(regulariser, dim, weight)
        return cls(encoder, ProjectionHead(encoder.feature_dim, dim, hidden, 3), regulariser=held, **options)

    def loss(self, z: Tensor) -> Loss:
        """The loss of embeddings ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            d, invariance = z.shape[-1], z.new_zeros(())
            rows, n = centred(z, self.group)
            for a, b, share in undirected_pairs(self.global_views, len(z)):
                invariance = invariance + share * squared_distance(z[a], z[b], n, self.group) / d
            moments = all_reduce(rows.mT @ rows, self.group) / (n - 1)
            deviation = (moments.diagonal(dim1=1, dim2=2) + self.eps).sqrt()
            variance = (1 - deviation).relu().mean()
            covariance = 2 * off_diagonal_square(moments).mean() / d
            total = self.invariance * invariance + self.variance * variance + self.covariance * covariance
            parts = {"invariance": invariance, "variance": variance, "covariance": covariance}
            loss = Loss(total, {name: value.detach() for name, value in parts.items()})
            return self._regularised(loss, z)

    def _pull(self, n: int, views: int) -> Pull:
        # |z_1 - z_2|^2 is four times the distance to the centre of two views, whose slope is 1/2; here over d.
        assert self.regulariser is not None
        return Pull(n, views, 2 * self.invariance / self.regulariser.discrepancy.dim, self.space)

    @property
    def spread_setting(self) -> tuple[str, float] | None:
        return super().spread_setting or ("method.options.variance", self.variance)

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "weights": f"invariance {self.invariance:g}, variance {self.variance:g}, covariance {self.covariance:g}",
            "expansion ratio": NO_SLOPE.format(push="that of a hinge on each coordinate's deviation"),
            **self._regulariser_facts(),
        }
