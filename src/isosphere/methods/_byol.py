"""Bootstrap your own latent, with what spreads its representations: on the embeddings or on the weights."""

__all__ = ["BYOL", "teacher_momentum"]

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from isosphere.methods._base import SLOW_START, Loss, Regularised, buffers_kept, by_size, embed_views
from isosphere.methods._momentum import HORIZON, Momentum
from isosphere.methods._network_energy import NetworkEnergy
from isosphere.methods._pairs import (
    check_views,
    directed_pairs,
    entries,
    row_total,
    squared_distance,
)
from isosphere.methods._registry import alias, method
from isosphere.methods._regulariser import Discrepant, Place, Pull, Regulariser
from isosphere.methods._simclr import Contrastive
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import full_precision

Term = Regulariser | Contrastive | NetworkEnergy
"""What may be added to BYOL's loss."""

_T = TypeVar("_T", bound=nn.Module)
# The slope of the invariance for the balanced weight: with the identity as predictor and the student as teacher, the
# two directions with gradients stopped at the targets pull like |z_1 - z_2|^2 without, four times JEPA's a = 1/2.
_SLOPE = 2.0


def teacher_momentum(start: float, progress: float) -> float:
    r"""Momentum of the teacher, :math:`1 - (1 - \tau_0)(\cos(\pi k/K) + 1)/2`: from ``start`` to 1 as k goes to K."""
    return 1 - (1 - start) * (math.cos(math.pi * min(1.0, max(0.0, progress))) + 1) / 2


class BYOL(Regularised):
    r"""A predictor guesses what a slowly following teacher makes of the other view.

    .. math:: \mathcal L_{\text{BYOL}} = \frac{2}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i
              \Big| \frac{p_{vi}}{|p_{vi}|} - \frac{z'_{gi}}{|z'_{gi}|} \Big|^2, \qquad
              p = \text{predictor}(\text{head}(\text{encoder}(x))), \quad z' = \text{teacher}(x)

    over the pairs of a global view g (the target) and any other view v (online). Two views: the *sum* of both
    directions, as published. The teacher (encoder and head) takes no gradient; after each step it moves to
    :math:`\tau_k \xi + (1 - \tau_k) \theta`, :math:`\tau_k = 1 - (1 - \tau_0)(\cos(\pi k/K) + 1)/2`.

    Further terms may spread the representations, each of the loss before it:

    .. math:: \mathcal L = (1 - w_c) \big[ (1 - w)\, \mathcal L_{\text{BYOL}} + w\, \tfrac1V \sum_v D(z_v) \big]
              + w_c\, \mathcal L_{\text{NT-Xent}} + w_e\, E(\theta)

    Args:
        encoder, head, predictor: modules ``(n, c, h, w) -> (n, p) -> (n, d) -> (n, d)``; published head and predictor
            ``ProjectionHead(..., 256, 4096)``.
        terms: any of a :class:`~isosphere.methods.Regulariser` of the online views at its ``place``: the
            ``"projection"`` (2105.00925 speaks of the representations and does not say which), the ``"prediction"`` or
            the backbone's ``"features"``; :class:`~isosphere.methods.Contrastive`, of the online projections;
            :class:`~isosphere.methods.NetworkEnergy`, of the online network.
        teacher: tau_0 (published .99 for 300 epochs, .996 for 1000), less in a training so short that the teacher
            would not follow.
        memory: the longest that it may remember, as a share of the training (:class:`~isosphere.methods.Momentum`).
        global_views: how many of the views, the first ones, are targets.

    Scale:
        L_BYOL is 0 at collapse (nothing in it forbids that) and 4 for unrelated views.
    Parts:
        ``invariance`` (L_BYOL), ``regulariser``, ``contrastive``, ``energy`` (the excess over uniform neurons).
    Reference:
        Grill et al., 2006.07733, equations 1, 2 and the schedule of section 3.3; Durrant and Leontidis, 2105.00925.

    Example:
        >>> nothing, collapsed = torch.nn.Identity(), torch.eye(4)[:1].expand(2, 5, 4)
        >>> BYOL(nothing, nothing, nothing).loss(collapsed, collapsed, collapsed, collapsed).total.item()
        0.0
    """

    space = "sphere"
    spread_form = "byol-uniformity"
    earlier: ClassVar[Mapping[str, Any]] = {"standardise": False}

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        predictor: nn.Module,
        *,
        terms: Sequence[Term] = (),
        teacher: float = 0.99,
        memory: float = HORIZON,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        kinds, known = [type(term) for term in terms], get_args(Term)
        if len(set(kinds)) < len(kinds) or not set(kinds) <= set(known):
            got, expected = (", ".join(kind.__name__ for kind in some) for some in (kinds, known))
            raise ValueError(f"got terms={got}, expected at most one each of {expected}")
        self.predictor = predictor
        self.teacher = Momentum(nn.Sequential(encoder, head), teacher, memory)
        self.terms = nn.ModuleList(terms)

    @method("byol", paper="BYOL, arXiv 2006.07733", summary="predict a slow teacher's projection")
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int = 256,
        hidden: int = 1024,
        standardise: bool | None = None,
        regulariser: Discrepant | None = None,
        weight: float | None = None,
        place: Place = "projection",
        contrastive: bool = False,
        temperature: float | None = None,
        weight_contrastive: float | None = None,
        energy: bool = False,
        weight_energy: float | None = None,
        energy_ratio: float | None = None,
        power: float | None = None,
        half_space: bool | None = None,
        hidden_weight: float | None = None,
        output_weight: float | None = None,
        **options: Any,
    ) -> "BYOL":
        """Published widths 4096-256, predictor 4096-256. ``weight``: the regulariser's, without one the contrast's.
        ``standardise``: batch norm without scale and shift at the end of the projection, as SimSiam has it and the
        published BYOL has not; None: without any term alone, for then the features keep more of their directions in
        the first hundred steps (docs/decisions.md).
        """
        alone = regulariser is None and not contrastive and not energy
        last = "standardised" if (alone if standardise is None else standardise) else "linear"
        head, predictor = (
            ProjectionHead(encoder.feature_dim, dim, hidden, last=last),
            ProjectionHead(dim, dim, hidden),
        )
        if contrastive and regulariser is None and weight_contrastive is None:
            weight, weight_contrastive = None, weight
        width = encoder.feature_dim if place == "features" else dim
        terms = [
            Regulariser.of(regulariser, width, weight, place),
            _built(
                Contrastive,
                "contrastive",
                contrastive,
                temperature=temperature,
                weight_contrastive=weight_contrastive,
            ),
            _built(
                partial(NetworkEnergy, nn.ModuleList([encoder, head, predictor])),
                "energy",
                energy,
                power=power,
                half_space=half_space,
                hidden_weight=hidden_weight,
                output_weight=output_weight,
                weight_energy=weight_energy,
                energy_ratio=energy_ratio,
            ),
        ]
        return cls(encoder, head, predictor, terms=[term for term in terms if term is not None], **options)

    def _term(self, kind: type[_T]) -> _T | None:
        return next((term for term in self.terms if isinstance(term, kind)), None)

    @property
    def regulariser(self) -> Regulariser | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The term of this kind, if there is one."""
        return self._term(Regulariser)

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

    @property
    def indivisible(self) -> str | None:
        alone = self._term(NetworkEnergy) is None
        return super().indivisible if alone else "its energy is a loss of the weights themselves"

    def prepare(self, *, n: int, views: int, batch: list[Tensor] | None = None) -> Self:
        super().prepare(n=n, views=views, batch=batch)
        energy = self._term(NetworkEnergy)
        if energy is not None and batch is not None:
            networks = nn.ModuleList([self.online, self.teacher])
            with torch.enable_grad(), full_precision(batch[0].device), buffers_kept(networks):
                energy.prepare(self._of_images(*self.outputs(batch)).total, self.online, self.group)
        return self

    def loss(self, features: Tensor, z: Tensor, p: Tensor, targets: Tensor) -> Loss:
        """The loss of the online views' outputs ``(views, n, .)`` and the targets ``(global_views, n, d)``."""
        loss = self._of_images(features, z, p, targets)
        if (energy := self._term(NetworkEnergy)) is None:
            return loss
        with full_precision(z.device):
            weighted, excess = energy(self.online)
            return Loss(loss.total + weighted, {**loss.parts, "energy": excess.detach()})

    def _of_images(self, features: Tensor, z: Tensor, p: Tensor, targets: Tensor) -> Loss:
        """The loss but for the energy of the weights."""
        with full_precision(z.device):
            n, raw = row_total(z, self.group), {"projection": z, "prediction": p, "features": features}
            rows = [p, targets.detach()] + [z] * (self._term(Contrastive) is not None)
            # One after the other through the same few operators.
            p, target, *of_contrast = self._place(torch.cat(rows)).split([len(x) for x in rows])
            of_target, of_other = zip(*directed_pairs(self.global_views, len(z)), strict=True)
            total = (
                2 * squared_distance(entries(p, of_other), entries(target, of_target), n, self.group).mean()
            )
            parts = {"invariance": total.detach()}
            for term in self.terms:
                if isinstance(term, Regulariser):
                    total, value = term(total, term.to_space(raw[term.place]), self._pull(n, len(z)))
                    parts["regulariser"] = value.detach()
                elif isinstance(term, Contrastive):
                    total, value = term(total, *of_contrast, self.global_views)
                    parts["contrastive"] = value.detach()
        return Loss(total, parts)

    def _pull(self, n: int, views: int) -> Pull:
        return Pull(n, views, _SLOPE, self.space)

    def after_step(self, progress: float) -> None:
        momentum = teacher_momentum(self.teacher.bounded(progress), progress)
        self.teacher.follow(nn.Sequential(self.encoder, self.head), momentum)
        super().after_step(progress)

    @property
    def spread_setting(self) -> tuple[str, float] | None:
        contrastive, energy = self._term(Contrastive), self._term(NetworkEnergy)
        if self.regulariser is None and contrastive is not None:
            return "method.weight", contrastive.weight
        if self.regulariser is None and energy is not None:
            return "method.options.weight_energy", energy.weight.item()
        return super().spread_setting

    @property
    def chosen(self) -> dict[str, Any]:
        layers = getattr(self.head, "layers", None)
        return {} if layers is None else {"standardise": isinstance(layers[-1], nn.BatchNorm1d)}

    @property
    def least_steps(self) -> int:
        return 0 if len(self.terms) else SLOW_START

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        facts = {
            "teacher": f"momentum from {self.teacher.momentum:g} to 1 (cosine), a memory of at most "
            f"{self.teacher.memory:g} of the training",
            "expansion ratio": "none: predictor and teacher, not a slope, keep it from collapse",
            **self._regulariser_facts(),
        }
        if self.regulariser is not None:
            facts["discrepancy"] += f" of the {self.regulariser.place}"
        if (contrastive := self._term(Contrastive)) is not None:
            facts["contrastive term"] = (
                f"{contrastive.weight:g} of NT-Xent, temperature {contrastive.temperature:g}"
            )
        if (energy := self._term(NetworkEnergy)) is not None:
            facts["energy"] = energy.describe()
        return facts

    def _former_names(self) -> dict[str, str]:
        names = {}
        for k, term in enumerate(self.terms):
            if isinstance(term, Regulariser):
                names |= {"discrepancy": f"terms.{k}.discrepancy", "weight": f"terms.{k}.weight"}
            if isinstance(term, NetworkEnergy):
                names |= {"energy": f"terms.{k}", "weight_energy": f"terms.{k}.weight"}
        return names


def _built(kind: Callable[..., _T], name: str, wanted: bool, **options: Any) -> _T | None:
    """The term with those of its options that are not None, called after it (``weight_energy``); None if not wanted.

    Raises:
        ValueError: an option without its term.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if wanted:
        return kind(**{key.replace(f"_{name}", "").replace(f"{name}_", ""): x for key, x in given.items()})
    for key, value in given.items():
        raise ValueError(f"got {key}={value} without its term, expected {name}=True too")
    return None


_BYOL = "Hyperspherically regularised networks, arXiv 2105.00925"
_ALIASES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("byol-uniformity", _BYOL, "BYOL with the uniformity of Wang and Isola", {"regulariser": "uniformity"}),
    ("byol-mhe", _BYOL, "BYOL with the hyperspherical energy of its weights", {"energy": True}),
    ("byol+contrastive", _BYOL, "BYOL with a contrastive term (NT-Xent)", {"contrastive": True}),
    (
        "byol+mmd",
        "isosphere",
        "BYOL with the MMD to the uniform law, heat kernel",
        {"regulariser": "mmd-heat"},
    ),
    (
        "byol+kl",
        "isosphere",
        "BYOL with the KL to the uniform law, von Mises-Fisher kernel",
        {"regulariser": "kl-vmf"},
    ),
)
for _name, _paper, _summary, _options in _ALIASES:
    alias(_name, "byol", paper=_paper, summary=_summary, **_options)
