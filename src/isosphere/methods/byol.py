"""Bootstrap your own latent, with what spreads its representations: on the embeddings or on the weights."""

__all__ = ["BYOL", "teacher_momentum"]

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Discrepancy
from isosphere.methods.base import SLOW_START, Loss, Method, by_size, embed_views
from isosphere.methods.contrastive import nt_xent
from isosphere.methods.momentum import HORIZON, Momentum
from isosphere.methods.network_energy import NetworkEnergy, gradient_norm_ratio
from isosphere.methods.pairs import (
    check_views,
    directed_pairs,
    row_total,
    squared_distance,
    undirected_pairs,
)
from isosphere.methods.regulariser import Pull, Regulariser
from isosphere.reductions import full_precision

_PLACES = ("projection", "prediction", "features")
# The slope of the invariance for the balanced weight: with the identity as predictor and the student as teacher, the
# two directions with gradients stopped at the targets pull like |z_1 - z_2|^2 without, four times JEPA's a = 1/2.
_SLOPE = 2.0


def teacher_momentum(start: float, progress: float) -> float:
    r"""Momentum of the teacher, :math:`1 - (1 - \tau_0)(\cos(\pi k/K) + 1)/2`: from ``start`` to 1 as k goes to K."""
    return 1 - (1 - start) * (math.cos(math.pi * min(1.0, max(0.0, progress))) + 1) / 2


class BYOL(Method):
    r"""A predictor guesses what a slowly following teacher makes of the other view.

    .. math:: \mathcal L_{\text{BYOL}} = \frac{2}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i
              \Big| \frac{p_{vi}}{|p_{vi}|} - \frac{z'_{gi}}{|z'_{gi}|} \Big|^2, \qquad
              p = \text{predictor}(\text{head}(\text{encoder}(x))), \quad z' = \text{teacher}(x)

    over the pairs of a global view g (the target) and any other view v (online). Two views: the *sum* of both
    directions, as published. The teacher (encoder and head) takes no gradient; after each step it moves to
    :math:`\tau_k \xi + (1 - \tau_k) \theta`, :math:`\tau_k = 1 - (1 - \tau_0)(\cos(\pi k/K) + 1)/2`.

    .. math:: \mathcal L = (1 - w_c) \big[ (1 - w)\, \mathcal L_{\text{BYOL}} + w\, \tfrac1V \sum_v D(z_v) \big]
              + w_c\, \mathcal L_{\text{NT-Xent}} + w_e\, E(\theta)

    with each of the three further terms only where it is asked for.

    Args:
        encoder, head, predictor: modules ``(n, c, h, w) -> (n, p) -> (n, d) -> (n, d)``; published head and predictor
            ``ProjectionHead(..., 256, 4096)``.
        teacher: tau_0 (published .99 for 300 epochs, .996 for 1000), less in a training so short that the teacher
            would not follow. memory: the longest that it may remember, as a share of the training
            (:class:`~isosphere.methods.Momentum`).
        discrepancy: D, a :class:`~isosphere.discrepancies.Discrepancy` of the online views (``Uniformity(2)``:
            2105.00925). place: where: on the ``"projection"`` (default; 2105.00925 speaks of the representations
            and does not say which), the ``"prediction"`` or the backbone's ``"features"``.
        weight: w in (0, 1); None: the balanced weight (:mod:`isosphere.methods.weighting`), found by ``prepare``.
        temperature: of the contrastive term, :func:`~isosphere.methods.nt_xent` of the online projections; None: no
            such term. weight_contrastive: w_c in (0, 1), .5 unless given.
        energy: E, a :class:`~isosphere.methods.NetworkEnergy` of the online network; None: no such term.
        weight_energy: w_e; None: such that at the first step its gradient is ``energy_ratio`` (1 unless given) times
            as long as the rest of the loss's, over all weights.

    *Scale.* L_BYOL is 0 at collapse (nothing in it forbids that) and 4 for unrelated views. *Parts*: ``invariance``
    (L_BYOL), ``regulariser``, ``contrastive``, ``energy`` (the excess over uniform neurons).

    *Reference.* Grill et al., 2006.07733, equations 1, 2 and the schedule of section 3.3; Durrant and Leontidis,
    2105.00925.
    """

    space = "sphere"
    weight_energy: Tensor
    _renamed: ClassVar = {"discrepancy": "regulariser.discrepancy", "weight": "regulariser.weight"}

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        predictor: nn.Module,
        *,
        teacher: float = 0.99,
        memory: float = HORIZON,
        discrepancy: Discrepancy | None = None,
        place: Literal["projection", "prediction", "features"] = "projection",
        weight: float | None = None,
        temperature: float | None = None,
        weight_contrastive: float | None = None,
        energy: NetworkEnergy | None = None,
        weight_energy: float | None = None,
        energy_ratio: float | None = None,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        if place not in _PLACES or (discrepancy is None and place != "projection"):
            raise ValueError(f"got place={place!r}, expected one of {_PLACES}, with a discrepancy")
        if weight is not None and discrepancy is None:
            raise ValueError(f"got weight={weight}, expected a number between 0 and 1, with a discrepancy")
        if temperature is not None and not temperature > 0:
            raise ValueError(f"got temperature={temperature}, expected a positive number (SimCLR: 0.5)")
        if weight_contrastive is not None and (temperature is None or not 0 < weight_contrastive < 1):
            raise ValueError(
                f"got weight_contrastive={weight_contrastive}, expected a number between 0 and 1, with a temperature"
            )
        if weight_energy is not None and (energy is None or not weight_energy > 0):
            raise ValueError(f"got weight_energy={weight_energy}, expected a positive number, with an energy")
        if energy_ratio is not None and (energy is None or weight_energy is not None or not energy_ratio > 0):
            raise ValueError(
                f"got energy_ratio={energy_ratio}, expected a positive number, with an energy and no weight_energy"
            )
        self.predictor = predictor
        self.teacher = Momentum(nn.Sequential(encoder, head), teacher, memory)
        self.regulariser = None if discrepancy is None else Regulariser(discrepancy, weight=weight)
        self.place, self.temperature, self.energy = place, temperature, energy
        self.weight_contrastive = 0.5 if weight_contrastive is None else weight_contrastive
        self.energy_ratio = 1.0 if energy_ratio is None else energy_ratio
        self._weighed = (
            False  # whether the weight of the energy is known to be found, so that no step has to look
        )
        if energy is not None:
            self.register_buffer(
                "weight_energy", torch.tensor(math.nan if weight_energy is None else weight_energy)
            )

    @property
    def discrepancy(self) -> Discrepancy | None:
        return None if self.regulariser is None else self.regulariser.discrepancy

    @property
    def weight(self) -> Tensor | None:
        """The weight of the regulariser, if there is one; nan before ``prepare``."""
        return None if self.regulariser is None else self.regulariser.weight

    @property
    def online(self) -> nn.ModuleList:
        """The networks that the optimiser trains, in order; the last linear layer is the predictor's."""
        return nn.ModuleList([self.encoder, self.head, self.predictor])

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        check_views(views, self.global_views)
        features, z, p = [], [], []
        for same in by_size(views):
            outputs = self.encoder(torch.cat(same))
            projections = self.head(outputs)
            predictions = self.predictor(projections)
            features += outputs.chunk(len(same))
            z += projections.chunk(len(same))
            p += predictions.chunk(len(same))
        targets = embed_views(self.teacher, views[: self.global_views])
        return tuple(torch.stack(part) for part in (features, z, p, targets))

    def combine(self, *outputs: Tensor) -> Loss:
        return self.loss(*outputs)

    @property
    def indivisible(self) -> str | None:
        return (
            super().indivisible if self.energy is None else "its energy is a loss of the weights themselves"
        )

    def loss(self, features: Tensor, z: Tensor, p: Tensor, targets: Tensor) -> Loss:
        """The loss of the online views' outputs ``(views, n, .)`` and the targets ``(global_views, n, d)``."""
        with full_precision(z.device):
            n, raw = row_total(z, self.group), {"projection": z, "prediction": p, "features": features}
            z, p, target = self._place(z), self._place(p), self._place(targets).detach()
            pairs = directed_pairs(self.global_views, len(z))
            distances = [squared_distance(p[v], target[g], n, self.group) for g, v in pairs]
            invariance = 2 * torch.stack(distances).mean()
            total, parts = invariance, {"invariance": invariance.detach()}
            if self.regulariser is not None:
                spread = self.regulariser.place(raw[self.place])
                total, value = self.regulariser(total, spread, self._pull(n, len(z)))
                parts["regulariser"] = value.detach()
            if self.temperature is not None:
                contrast = z.new_zeros(())
                for a, b, share in undirected_pairs(self.global_views, len(z)):
                    pull, push = nt_xent(z[a], z[b], self.temperature, self.group)
                    contrast = contrast + share * (pull / (2 * self.temperature) + push)
                total = (1 - self.weight_contrastive) * total + self.weight_contrastive * contrast
                parts["contrastive"] = contrast.detach()
            if self.energy is not None:
                total, parts["energy"] = self._spread_weights(total)
        return Loss(total, parts)

    def _pull(self, n: int, views: int) -> Pull:
        return Pull(n, views, _SLOPE, self.space)

    def _spread_weights(self, total: Tensor) -> tuple[Tensor, Tensor]:
        assert self.energy is not None
        excess = self.energy(self.online)
        if not self._weighed:
            if self.weight_energy.isnan():
                if not torch.is_grad_enabled():  # the weight is found at the first step, and this is none
                    return total, excess.detach()
                ratio = gradient_norm_ratio(total, excess, self.online, self.group)
                self.weight_energy.fill_(self.energy_ratio * ratio)
            self._weighed = True
        return total + self.weight_energy * excess, excess.detach()

    def after_step(self, progress: float) -> None:
        momentum = teacher_momentum(self.teacher.bounded(progress), progress)
        self.teacher.follow(nn.Sequential(self.encoder, self.head), momentum)
        if self.regulariser is not None:
            self.regulariser.after_step()

    @property
    def spread_setting(self) -> tuple[str, float] | None:
        if self.discrepancy is not None:
            return super().spread_setting
        if self.temperature is not None:
            return "method.weight", self.weight_contrastive
        return None if self.energy is None else ("method.options.weight_energy", self.weight_energy.item())

    @property
    def least_steps(self) -> int:
        spread = (self.discrepancy, self.temperature, self.energy)
        return SLOW_START if all(term is None for term in spread) else 0

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        facts = {
            "teacher": f"momentum from {self.teacher.momentum:g} to 1 (cosine), a memory of at most "
            f"{self.teacher.memory:g} of the training",
            "expansion ratio": "none: predictor and teacher, not a slope, keep it from collapse",
        }
        if self.regulariser is not None:
            facts["discrepancy"] = f"{self.regulariser.name} of the {self.place}"
            facts["weight"] = self.regulariser.describe()
        if self.temperature is not None:
            facts["contrastive term"] = (
                f"{self.weight_contrastive:g} of NT-Xent, temperature {self.temperature:g}"
            )
        if self.energy is not None:
            facts["energy"] = f"of the weights, {self.energy.extra_repr()}, " + (
                f"its gradient {self.energy_ratio:g} of the loss's at the first step"
                if self.weight_energy.isnan()
                else f"weight {self.weight_energy.item():.4g}"
            )
        return facts
