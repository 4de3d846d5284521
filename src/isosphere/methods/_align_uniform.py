"""Alignment and uniformity, optimised directly."""

__all__ = ["AlignUniform"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Uniformity
from isosphere.methods._base import Loss, Method
from isosphere.methods._pairs import row_mean, row_total, undirected_pairs
from isosphere.methods._registry import method
from isosphere.methods._weighting import expansion_ratio, explain_expansion
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import full_precision


class AlignUniform(Method):
    r"""The two properties that contrastive losses have in the limit, optimised directly.

    .. math:: \mathcal L = (1 - w)\, \frac{1}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i |z_{gi} - z_{vi}|^\alpha +
              w\, \frac1V \sum_v \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t |z_{vi} - z_{vj}|^2}

    on unit rows; P: a global view with each other view.

    Args:
        encoder, head: modules; as published the head is one linear layer (``ProjectionHead(..., layers=1)``).
        weight: w in (0, 1); published: equal weights (.5) with t = 2, or alignment three times as heavy (.25) with
            t = 3 (ImageNet).
        t: of the Gaussian potential.
        power: alpha.
        global_views: how many of the views, the first ones, are global.

    Parts:
        ``invariance`` (2 for unrelated views at alpha = 2), ``regulariser`` (0 at collapse, negative otherwise).
    Reference:
        Wang and Isola, 2005.10242, section 4.

    Example:
        >>> collapsed = torch.eye(4)[:1].expand(2, 5, 4)  # two views of five images
        >>> AlignUniform(torch.nn.Identity(), torch.nn.Identity()).loss(collapsed).total.item()
        0.0
    """

    space = "sphere"

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        weight: float = 0.5,
        t: float = 2.0,
        power: float = 2.0,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        if not 0 < weight < 1:
            raise ValueError(f"got weight={weight}, expected a number strictly between 0 and 1")
        if not power > 0:
            raise ValueError(f"got power={power}, expected a positive number (the paper: 2)")
        self.weight, self.power = weight, power
        self.discrepancy = Uniformity(t)

    @method("align-uniform", paper="Wang and Isola, arXiv 2005.10242", summary="alignment plus uniformity")
    @classmethod
    def from_encoder(
        cls, encoder: Encoder, *, dim: int = 128, hidden: int = 1024, layers: int = 2, **options: Any
    ) -> "AlignUniform":
        """Published head one linear layer (``layers=1``) to 128 dimensions."""
        return cls(encoder, ProjectionHead(encoder.feature_dim, dim, hidden, layers), **options)

    def loss(self, z: Tensor) -> Loss:
        """The loss of unit rows ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            n, alignment = row_total(z, self.group), z.new_zeros(())
            for a, b, share in undirected_pairs(self.global_views, len(z)):
                alignment = alignment + share * row_mean(self._distance(z[a], z[b]), n, self.group)
            uniformity = self.discrepancy(z).mean()
            total = (1 - self.weight) * alignment + self.weight * uniformity
        return Loss(total, {"invariance": alignment.detach(), "regulariser": uniformity.detach()})

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        square = (x - y).square().sum(-1)
        if self.power == 2:
            return square
        # A power below 2 has no derivative at zero distance: such a pair is aligned and gets none.
        apart = square > 0
        return torch.where(apart, torch.where(apart, square, 1.0) ** (self.power / 2), 0.0)

    @torch.no_grad()
    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        facts = {
            "discrepancy": f"Uniformity({self.discrepancy.extra_repr()})",
            "weight": f"{self.weight:.4g} of the regulariser, {1 - self.weight:.4g} of the invariance (given)",
        }
        if self.power != 2:
            facts["expansion ratio"] = (
                f"none: the invariance of power {self.power:g} has no slope at collapse"
            )
            return facts
        shares = None if views is None else self._within(views)
        facts["expansion ratio"] = explain_expansion(self._expansion(), shares)
        return facts

    def _expansion(self) -> float:
        # The mean squared distance of unrelated unit rows is 2: the slope of the invariance. No row meets itself.
        return expansion_ratio(self.discrepancy, self.weight, 2, 2.0)

    def expansion_ratio(self, n: int, views: int) -> float | None:
        return self._expansion() if self.power == 2 else None
