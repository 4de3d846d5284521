"""SimSiam read as variational inference: the predictor says where the other view lies and how sure it is."""

__all__ = ["VISimSiam"]

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from isosphere.methods._base import SLOW_START, Loss, Method
from isosphere.methods._pairs import (
    directed_pairs,
    entries,
    row_mean,
    row_total,
    squared_distance,
)
from isosphere.methods._registry import method
from isosphere.methods._simsiam import narrow_predictor
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import full_precision, wide
from isosphere.sphere import log_power_spherical, normalize, power_spherical_kl


class VISimSiam(Method):
    r"""A predictor gives a power-spherical law of the other view's projection: a direction and a concentration.

    .. math:: \mathcal L = \frac1d \frac{1}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i \Big[
              - \log \mathrm{PS}\big(\operatorname{sg} \tfrac{z_{gi}}{|z_{gi}|} \,\big|\, \mu_{vi}, \kappa_{vi}\big)
              + \beta\, \mathrm{KL}\big(\mathrm{PS}(\mu_{vi}, \kappa_{vi}) \,\big\|\, \text{uniform}\big) \Big], \qquad
              \mathrm{PS}(u | \mu, \kappa) \propto (1 + \langle u, \mu \rangle)^\kappa

    over the pairs of a global view g (the target, through which no gradient flows) and any other view v;
    :math:`z = \text{head}(\text{encoder}(x))`, :math:`(p, a) = \text{predictor}(z)`, :math:`\mu = p/|p|`,
    :math:`\kappa = d\, \mathrm{softplus}(a)`. With one :math:`\kappa` for all images this is SimSiam with another
    decreasing function of the cosine; the concentration is the image's own certainty.

    Args:
        encoder, head: as for :class:`~isosphere.methods.SimSiam`.
        predictor: module ``(n, d) -> (n, d + 1)``.
        kl_weight: beta; 0 is maximum likelihood, which keeps the concentration finite by itself while views differ.
        global_views: how many of the views, the first ones, are targets.

    Scale:
        Nats per dimension, densities with respect to the surface measure.
    Parts:
        ``likelihood`` (mean log density, nats per image), ``kl`` to the uniform law, ``concentration`` (mean of
        kappa/d), ``invariance`` (mean squared distance of direction and target, 2 for unrelated views).
    Reference:
        Nakamura, Okada and Taniguchi, 2203.11437: the predictor's law is theirs; weight of the divergence and scale of
        the concentration are this library's choice.

    Example:
        >>> method = VISimSiam(torch.nn.Identity(), torch.nn.Linear(8, 4), torch.nn.Linear(4, 5))
        >>> sorted(method([torch.randn(6, 8), torch.randn(6, 8)]).parts)
        ['concentration', 'invariance', 'kl', 'likelihood']
    """

    space = "sphere"

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        predictor: nn.Module,
        *,
        kl_weight: float = 0.0,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        if not kl_weight >= 0:
            raise ValueError(f"got kl_weight={kl_weight}, expected a number of at least 0")
        self.predictor = predictor
        self.kl_weight = kl_weight

    @method(
        "vi-simsiam", paper="VI-SimSiam, arXiv 2203.11437", summary="SimSiam with a concentration per image"
    )
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int = 512,
        hidden: int = 1024,
        bottleneck: int | None = None,
        **options: Any,
    ) -> "VISimSiam":
        """SimSiam's networks, one more output of the predictor."""
        head = ProjectionHead(encoder.feature_dim, dim, hidden, 3, last="standardised")
        return cls(encoder, head, narrow_predictor(dim, dim + 1, bottleneck), **options)

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        return (self._raw(views),)

    def _network(self, x: Tensor) -> Tensor:
        """Projection, direction before normalisation, and concentration before softplus, ``(n, 2 d + 1)``."""
        z = super()._network(x)
        return torch.cat([z, self.predictor(z)], -1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit projections and directions ``(*, d)``, concentrations ``(*,)``."""
        dim = outputs.shape[-1] // 2
        vectors, certainty = wide(outputs).split([2 * dim, 1], -1)
        z, direction = normalize(vectors.unflatten(-1, (2, dim))).unbind(-2)
        return z, direction, dim * functional.softplus(certainty.squeeze(-1))

    def loss(self, joined: Tensor) -> Loss:
        """The loss of projections, directions and concentrations, one after the other: ``(views, n, 2 d + 1)``."""
        with full_precision(joined.device):
            return self._loss(*self._split(joined))

    def _loss(self, z: Tensor, direction: Tensor, concentration: Tensor) -> Loss:
        """The loss of unit projections and directions ``(views, n, d)`` and concentrations ``(views, n)``."""
        target, dim, n = z.detach(), z.shape[-1], row_total(z, self.group)
        pairs = directed_pairs(self.global_views, len(z))
        targets = entries(target, [g for g, _ in pairs])
        direction, concentration = (entries(x, [v for _, v in pairs]) for x in (direction, concentration))
        logs = log_power_spherical(targets, direction, concentration)
        likelihood = row_mean(logs, n, self.group).mean()
        learned = concentration if self.kl_weight else concentration.detach()
        kl = row_mean(power_spherical_kl(learned, dim), n, self.group).mean()
        with torch.no_grad():  # what is only looked at
            parts = {
                "likelihood": likelihood.detach(),
                "kl": kl.detach(),
                "concentration": row_mean(concentration / dim, n, self.group).mean(),
                "invariance": squared_distance(direction, targets, n, self.group).mean(),
            }
        return Loss((self.kl_weight * kl - likelihood) / dim, parts)

    @torch.no_grad()
    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """How sure the predictor is of each image ``(n, c, h, w)``: ``(n,)`` each, larger for familiar images.

        ``concentration``: kappa; ``likelihood``: the log density of the image's own projection, with respect to the
        surface measure. Call in evaluation mode.
        """
        outputs = self._network(x)
        with full_precision(outputs.device):
            z, direction, concentration = self._split(outputs)
            likelihood = log_power_spherical(z, direction, concentration)
        return {"concentration": concentration, "likelihood": likelihood}

    @torch.no_grad()
    def uncertainty(self, features: Tensor) -> Tensor:
        """Spherical variance of each image's law, from the backbone's features ``(n, p)`` to ``(n,)``: one minus the
        mean resultant length, ``(d - 1)/(d - 1 + kappa)``; 1 is the uniform law's. Call in evaluation mode.
        """
        z = self.head(features)
        _, direction, concentration = self._split(torch.cat([z, self.predictor(z)], -1))
        rest = direction.shape[-1] - 1
        return rest / (rest + concentration)

    @property
    def least_steps(self) -> int:
        return SLOW_START

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "law of the other view": "power-spherical, direction and concentration by the predictor",
            "expansion ratio": "none: predictor and stopped gradient, not a slope, keep it from collapse",
        }
