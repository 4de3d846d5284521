"""Barlow Twins: the coordinates of two views correlate with themselves, and with no other."""

__all__ = ["BarlowTwins"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.methods._base import Loss, Method
from isosphere.methods._moments import NO_SLOPE, centred, off_diagonal_square
from isosphere.methods._pairs import undirected_pairs
from isosphere.methods._registry import method
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import all_reduce, full_precision


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
        global_views: how many of the views, the first ones, are global.

    Scale:
        d at collapse; for unrelated views the invariance term is about d. O(n d^2) a pair of views.
    Parts:
        ``invariance`` (diagonal), ``redundancy`` (off the diagonal, unweighted).
    Reference:
        Zbontar et al., 2103.03230, equations 1 and 2.

    Example:
        >>> collapsed = torch.zeros(2, 5, 4)  # two views of five images
        >>> BarlowTwins(torch.nn.Identity(), torch.nn.Identity()).loss(collapsed).total.item()
        4.0
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, weight: float = 0.0051, global_views: int = 2):
        super().__init__(encoder, head, global_views)
        if not weight >= 0:
            raise ValueError(f"got weight={weight}, expected at least 0 (published: 0.0051)")
        self.weight = weight

    @method(
        "barlow-twins", paper="Barlow Twins, arXiv 2103.03230", summary="cross-correlation to the identity"
    )
    @classmethod
    def from_encoder(
        cls, encoder: Encoder, *, dim: int = 1024, hidden: int = 1024, **options: Any
    ) -> "BarlowTwins":
        """Published widths 8192-8192-8192."""
        return cls(encoder, ProjectionHead(encoder.feature_dim, dim, hidden, 3), **options)

    def loss(self, z: Tensor) -> Loss:
        """The loss of embeddings ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            rows, n = centred(z, self.group)
            spread = all_reduce(rows.square().sum(1, keepdim=True), self.group) / n
            standard = rows * torch.rsqrt(spread + 1e-5)
            invariance, redundancy = z.new_zeros(2).unbind()
            for a, b, share in undirected_pairs(self.global_views, len(z)):
                correlation = all_reduce(standard[a].mT @ standard[b], self.group) / n
                invariance = invariance + share * (1 - correlation.diagonal()).square().sum()
                redundancy = redundancy + share * off_diagonal_square(correlation)
            total = invariance + self.weight * redundancy
        return Loss(total, {"invariance": invariance.detach(), "redundancy": redundancy.detach()})

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "weight": f"{self.weight:g} of the redundancy, 1 of the invariance",
            "expansion ratio": NO_SLOPE.format(
                push="standardisation: a constant coordinate cannot correlate"
            ),
        }
