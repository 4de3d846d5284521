"""Multi-view prediction with a test of uniformity: LeJEPA, SPHERE-JEPA and the family without projection noise."""

__all__ = ["JEPA", "DeepJEPA"]

import math
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.devices import generators_kept
from isosphere.discrepancies import Discrepancy
from isosphere.methods._base import (
    Loss,
    Regularised,
    buffers_kept,
    embed_views,
    invariance,
    invariance_slope,
)
from isosphere.methods._momentum import HORIZON, Momentum
from isosphere.methods._pairs import row_total, squared_distance
from isosphere.methods._registry import alias, method
from isosphere.methods._regulariser import Discrepant, Pull, Regulariser, named
from isosphere.methods._weighting import explain_expansion, signal_share
from isosphere.models import Encoder, MLPHead
from isosphere.reductions import full_precision, row_counts


class JEPA(Regularised):
    r"""Views of an image agree with their centre while a discrepancy keeps the embeddings uniform.

    .. math:: \mathcal L = (1 - w) \frac1V \sum_v \frac1n \sum_i |\mu_i - z_{vi}|^2 + w \frac1V \sum_v D(z_v), \quad
              \mu_i = \frac{1}{V_g} \sum_{v \le V_g} z_{vi}

    On the sphere (``discrepancy.space``) every :math:`z_{vi}` is normalised before both terms; :math:`\mu_i` is not
    normalised again and carries gradient, unless a teacher makes it.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``.
        discrepancy: :class:`~isosphere.discrepancies.Discrepancy`; which one *is* the method: SUSReg is SPHERE-JEPA,
            SIGReg is LeJEPA, MMD, KSD and KL are its family.
        weight: w in (0, 1); None: by ``expansion``, or the balanced weight (:mod:`isosphere.methods._weighting`),
            found by ``prepare`` from n, the views and the discrepancy.
        expansion: the expansion ratio r* to take the weight from.
        cutoff: of the balanced weight, in (0, 1]: a direction is used iff its share of variance within images is
            below it. Larger spreads more. None: 1/2, and with random directions a lighter weight, by the share of their
            gradient that is signal (:func:`~isosphere.methods.signal_share`).
        teacher: momentum of an EMA copy of encoder and head that makes the centre
            (:class:`~isosphere.methods.Momentum`); None: no teacher.
        memory: the longest that it may remember, as a share of the training.
        global_views: how many of the views, the first ones, make the centre.

    Parts:
        ``invariance`` (summed over dimensions, averaged over views and rows), ``regulariser`` (averaged over views).
    Reference:
        SPHERE-JEPA (2605.26900); LeJEPA (2511.08544), which also averages over dimensions: its lambda is
        ``weight/(1 - weight) = d lambda/(1 - lambda)`` here; "Expanding SPHERE-JEPA" (2606.17603).

    Example:
        >>> from isosphere.discrepancies import MMD
        >>> from isosphere.kernels import HeatKernel
        >>> method = JEPA(torch.nn.Linear(12, 10), torch.nn.Linear(10, 8), MMD(HeatKernel(8)))
        >>> bool(0 < method.prepare(n=64, views=2).weight < 1)  # once, before the first step
        True
        >>> sorted(method([torch.randn(64, 12), torch.randn(64, 12)]).parts)
        ['invariance', 'regulariser']
    """

    in_words = "views of an image are pulled together, different images are spread apart"
    regulariser: Regulariser

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        discrepancy: Discrepancy,
        *,
        weight: float | None = None,
        expansion: float | None = None,
        cutoff: float | None = None,
        teacher: float | None = None,
        memory: float = HORIZON,
        global_views: int = 2,
    ):
        super().__init__(encoder, head, global_views)
        if teacher is None and memory != HORIZON:
            raise ValueError(
                f"got memory={memory} and no teacher, expected a momentum too, e.g. teacher=0.996"
            )
        held = Regulariser(discrepancy, weight=weight, expansion=expansion, cutoff=cutoff)
        self.regulariser = held  # pyright: ignore[reportIncompatibleVariableOverride]  (here there always is one)
        self.space = discrepancy.space
        self.teacher = None if teacher is None else Momentum(nn.Sequential(encoder, head), teacher, memory)

    @method(
        "jepa",
        paper="isosphere",
        summary="views agree, a discrepancy spreads them (kl-vmf)",
    )
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int = 128,
        hidden: int = 1024,
        discrepancy: Discrepant = "kl-vmf",
        features: float | None = None,
        **options: Any,
    ) -> "JEPA":
        """Published widths 2048-2048-256. ``features``: the share of the loss that is of the backbone's features."""
        head, test = MLPHead(encoder.feature_dim, dim, hidden), named(discrepancy, dim)
        if features is None:
            return JEPA(encoder, head, test, **options)
        return DeepJEPA(
            encoder, head, test, named(discrepancy, encoder.feature_dim), share=features, **options
        )

    @property
    def discrepancy(self) -> Discrepancy:
        return self.regulariser.discrepancy

    @property
    def weight(self) -> Tensor:
        return self.regulariser.weight

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        (z,) = super().outputs(views)
        if self.teacher is None:
            return (z,)
        globals_ = embed_views(self.teacher, views[: self.global_views])
        with full_precision(z.device):
            return z, self._place(torch.stack(globals_))

    def loss(self, z: Tensor, targets: Tensor | None = None) -> Loss:
        """The loss of embeddings ``z`` ``(views, n, d)`` about the centre of ``targets``, a teacher's or their own."""
        return self._about_centre(z, z if targets is None else targets, self.regulariser)

    def _about_centre(self, z: Tensor, targets: Tensor, regulariser: Regulariser) -> Loss:
        centre = targets[: self.global_views].mean(0)
        group = regulariser.discrepancy.group
        with full_precision(z.device):
            counts = row_counts(z.shape[1], z.device, group)
            n, alone = sum(counts), len(counts) == 1
            agreement = invariance(z, centre) if alone else squared_distance(z, centre, n, group).mean()
            total, spread = regulariser(agreement, z, self._pull(n, len(z)))
        return Loss(total, {"invariance": agreement.detach(), "regulariser": spread.detach()})

    @torch.no_grad()
    def signal_share(self, views: list[Tensor]) -> float:
        if not self.discrepancy.random:
            return 1.0
        with buffers_kept(self), generators_kept(views[0].device):
            z = self.outputs(views)[0]
        return signal_share(self.discrepancy, z=z)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        if self.teacher is not None:
            self.teacher.follow(nn.Sequential(self.encoder, self.head), self.teacher.bounded(progress))

    def _pull(self, n: int, views: int) -> Pull:
        taught = self.teacher is not None
        slope = invariance_slope(self.global_views, views - self.global_views, teacher=taught)
        return Pull(n, views, slope, self.space)

    def expansion_ratio(self, n: int, views: int) -> float | None:
        ratio = self.regulariser.expansion_ratio(self._pull(n, views))
        return None if ratio is None or math.isinf(ratio) else ratio

    @torch.no_grad()
    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        facts = {
            "discrepancy": self.regulariser.name,
            "weight": self.regulariser.describe(invariance=True),
        }
        if views is not None:
            n = row_total(views[0].flatten(1), self.discrepancy.group)
            ratio = self.regulariser.expansion_ratio(self._pull(n, len(views)))
            if ratio is not None:
                facts["expansion ratio"] = explain_expansion(ratio, self._within(views))
        return facts


class DeepJEPA(JEPA):
    r"""Embeddings and backbone features are both asked to agree over views and to be uniform.

    .. math:: \mathcal L = (1 - s)\, \mathcal L_D(z) + s\, \mathcal L_{D'}(y), \qquad y = \operatorname{BN}(f(x)), \quad
              z = h(f(x))

    with :math:`\mathcal L_D` the loss of :class:`~isosphere.methods.JEPA`, each at its own weight, and BN batch norm
    without scale and shift: behind ReLU and pooling features are not negative, and no discrepancy could make their
    directions uniform. It is not part of ``embed``, which gives the features as the encoder makes them.

    Args:
        encoder, head, discrepancy: of :class:`~isosphere.methods.JEPA`, as are the options; ``weight``, ``expansion``
            and ``cutoff`` hold at both depths, and there is no teacher.
        features: D', a discrepancy of the encoder's dimension, in the space of ``discrepancy``.
        share: s in (0, 1]; at 1 the head learns nothing.

    Parts:
        ``invariance`` and ``regulariser`` of the embeddings, ``features_invariance`` and ``features_regulariser`` of
        the features.
    Reference:
        This library's own: the estimators for which uniformity is optimal read features, the papers spread
        embeddings. Better than the embeddings alone on photographs, worse on textures (docs/compared.md).

    Example:
        >>> from isosphere.discrepancies import MMD
        >>> from isosphere.kernels import HeatKernel
        >>> networks, tests = (torch.nn.Linear(12, 10), torch.nn.Linear(10, 8)), (MMD(HeatKernel(d)) for d in (8, 10))
        >>> method = DeepJEPA(*networks, *tests, weight=0.1)
        >>> len(method([torch.randn(64, 12), torch.randn(64, 12)]).parts)
        4
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        discrepancy: Discrepancy,
        features: Discrepancy,
        *,
        share: float = 0.25,
        **options: Any,
    ):
        super().__init__(encoder, head, discrepancy, **options)
        if not 0 < share <= 1:
            raise ValueError(f"got a share of {share} for the features, expected a number in (0, 1]")
        if self.teacher is not None:
            raise ValueError("got a teacher and a loss of the features, expected one of them or none")
        if features.space != discrepancy.space:
            raise ValueError(
                f"got a {features.space} discrepancy of the features, expected one in the space of that of the "
                f"embeddings: {discrepancy.space}"
            )
        self.share = share
        weights: dict[str, Any] = {name: options.get(name) for name in ("weight", "expansion", "cutoff")}
        self.features = Regulariser(features, **weights)
        self.standardise = nn.BatchNorm1d(features.dim, affine=False)

    def _network(self, x: Tensor) -> Tensor:
        """Standardised features and the head's outputs, one after the other."""
        features = self.encoder(x)
        return torch.cat([self.standardise(features), self.head(features)], -1)

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        raw = self._raw(views)
        width = self.features.discrepancy.dim
        with full_precision(raw.device):
            return self._place(raw[..., width:]), self._place(raw[..., :width])

    def loss(self, z: Tensor, y: Tensor) -> Loss:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The loss of embeddings and of standardised features, both ``(views, n, .)``."""
        deep = self._about_centre(z, z, self.regulariser)
        shallow = self._about_centre(y, y, self.features)
        parts = deep.parts | {f"features_{name}": part for name, part in shallow.parts.items()}
        return Loss((1 - self.share) * deep.total + self.share * shallow.total, parts)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.features.after_step()

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        facts = super().describe(views)
        facts["depths"] = (
            f"{1 - self.share:.4g} of the loss at the embeddings, {self.share:.4g} at the features: "
            f"{self.features.name}, {self.features.describe(invariance=True)}"
        )
        return facts


_SPHERE, _LEJEPA = "SPHERE-JEPA, arXiv 2605.26900", "LeJEPA, arXiv 2511.08544"
_KERJEPA = "KerJEPA, arXiv 2512.19605"
_EXPANDED = "Expanding SPHERE-JEPA, arXiv 2606.17603"
_EMA = 0.996
for _name, _test, _paper, _summary in (
    ("sphere-jepa", "susreg", _SPHERE, "sliced test of uniformity (SUSReg)"),
    ("lejepa", "sigreg", _LEJEPA, "sliced test of normality (SIGReg)"),
    ("kerjepa-mmd", "kerjepa-mmd", _KERJEPA, "MMD to the normal law, Gaussian kernel"),
    ("kerjepa-ksd", "kerjepa-ksd", _KERJEPA, "Stein discrepancy to the normal law, IMQ kernel"),
    (
        "visreg",
        "visreg",
        "VISReg, arXiv 2606.02572",
        "deviations and sliced Wasserstein distance to the normal law",
    ),
    ("mmd-heat", "mmd-heat", _EXPANDED, "MMD to the uniform law, heat kernel"),
    ("mmd-bandlimited", "mmd-bandlimited", _EXPANDED, "MMD of degrees 1 and 2: mean and covariance"),
    ("mmd-induced", "mmd-induced", _EXPANDED, "SUSReg averaged over all directions, exactly"),
    ("ksd-heat", "ksd-heat", _EXPANDED, "kernel Stein discrepancy, heat kernel"),
    ("ksd-bandlimited", "ksd-bandlimited", _EXPANDED, "kernel Stein discrepancy of degrees 1 and 2"),
    ("kl-heat", "kl-heat", _EXPANDED, "KL of a kernel density estimate, heat kernel"),
    ("kl-vmf", "kl-vmf", "isosphere", "KL of a kernel density estimate, von Mises-Fisher kernel"),
    ("mmd+kl", "mmd+kl", "isosphere", "half MMD, half KL to the uniform law"),
):
    alias(_name, "jepa", paper=_paper, summary=_summary, discrepancy=_test)
for _name, _test, _paper, _summary in (
    ("sphere-jepa-ema", "susreg", _SPHERE, "sphere-jepa with a slow teacher's centre"),
    ("lejepa-ema", "sigreg", _SPHERE, "lejepa with a slow teacher's centre"),
    ("mmd-ema", "mmd-heat", "isosphere", "mmd-heat with a slow teacher's centre"),
    ("kl-ema", "kl-vmf", "isosphere", "kl-vmf with a slow teacher's centre"),
):
    alias(_name, "jepa", paper=_paper, summary=_summary, discrepancy=_test, teacher=_EMA)
alias(
    "kl-deep",
    "jepa",
    paper="isosphere",
    summary="kl-vmf of the embeddings and of the features",
    discrepancy="kl-vmf",
    features=0.25,
)
