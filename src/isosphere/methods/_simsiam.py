"""Siamese networks with a stopped gradient and no teacher."""

__all__ = ["SimSiam", "narrow_predictor"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.methods._base import SLOW_START, Loss, Regularised
from isosphere.methods._pairs import directed_pairs, row_total, squared_distance
from isosphere.methods._registry import method
from isosphere.methods._regulariser import Discrepant, Pull, Regulariser
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import full_precision

# A quarter of BYOL's: the directions are averaged and the squared distance is halved.
_SLOPE = 0.5


def narrow_predictor(dim: int, outputs: int, bottleneck: int | None) -> ProjectionHead:
    """SimSiam's predictor; None: a bottleneck of a quarter of ``dim``, as published."""
    if bottleneck is not None and bottleneck < 1:
        raise ValueError(f"got bottleneck={bottleneck}, expected at least 1 (published: a quarter of {dim})")
    return ProjectionHead(dim, outputs, bottleneck or max(1, dim // 4), bias=True)


class SimSiam(Regularised):
    r"""A predictor guesses the other view's projection, through which no gradient flows.

    .. math:: \mathcal L = -\frac{1}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i
              \Big\langle \frac{p_{vi}}{|p_{vi}|}, \operatorname{sg} \frac{z_{gi}}{|z_{gi}|} \Big\rangle,
              \qquad z = \text{head}(\text{encoder}(x)), \quad p = \text{predictor}(z)

    over the pairs of a global view g (the target) and any other view v. Two views: half the sum of both directions,
    as published.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``; published head ``ProjectionHead(2048, 2048, 2048,
            layers=3, last="standardised")``.
        predictor: module ``(n, d) -> (n, d)``; published ``ProjectionHead(2048, 2048, 512, bias=True)``, a bottleneck.
        regulariser: of the projections, :math:`(1 - w) \mathcal L + w\, \frac1V \sum_v D(z_v)`; None: none.
        global_views: how many of the views, the first ones, are targets.

    Scale:
        -1 at collapse (nothing in the loss forbids it; predictor, stopped gradient and batch norm do), 0 for
        unrelated views.
    Parts:
        ``invariance``, the mean squared distance (2 for unrelated views): ``total = invariance / 2 - 1``.
    Reference:
        Chen and He, 2011.10566, equations 1 to 4.

    Example:
        >>> nothing, collapsed = torch.nn.Identity(), torch.eye(4)[:1].expand(2, 5, 4)
        >>> SimSiam(nothing, nothing, nothing).loss(collapsed, collapsed).total.item()
        -1.0
    """

    space = "sphere"

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        predictor: nn.Module,
        *,
        regulariser: Regulariser | None = None,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        self.predictor, self.regulariser = predictor, regulariser

    @method("simsiam", paper="SimSiam, arXiv 2011.10566", summary="predict the other view, gradient stopped")
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int = 512,
        hidden: int = 1024,
        bottleneck: int | None = None,
        regulariser: Discrepant | None = None,
        weight: float | None = None,
        **options: Any,
    ) -> "SimSiam":
        """Published widths 2048-2048-2048, predictor 512-2048."""
        head = ProjectionHead(encoder.feature_dim, dim, hidden, 3, last="standardised")
        held = Regulariser.of(regulariser, dim, weight)
        return cls(encoder, head, narrow_predictor(dim, dim, bottleneck), regulariser=held, **options)

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        return self._raw(views).unbind(2)

    def _network(self, x: Tensor) -> Tensor:
        """Projection and prediction, ``(n, 2, d)``."""
        z = super()._network(x)
        return torch.stack([z, self.predictor(z)], 1)

    def loss(self, z: Tensor, p: Tensor) -> Loss:
        """The loss of projections and predictions, both ``(views, n, d)``."""
        with full_precision(z.device):
            target, guess = self._place(z).detach(), self._place(p)
            pairs = directed_pairs(self.global_views, len(z))
            n = row_total(z, self.group)
            distances = [squared_distance(guess[v], target[g], n, self.group) for g, v in pairs]
            distance = torch.stack(distances).mean()
            return self._regularised(Loss(distance / 2 - 1, {"invariance": distance.detach()}), z)

    def _pull(self, n: int, views: int) -> Pull:
        return Pull(n, views, _SLOPE, self.space)

    @property
    def least_steps(self) -> int:
        return SLOW_START if self.regulariser is None else 0

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        said = "none: predictor and stopped gradient, not a slope, keep it from collapse"
        return {"expansion ratio": said, **self._regulariser_facts()}
