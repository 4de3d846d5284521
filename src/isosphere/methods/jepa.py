"""Multi-view prediction with a test of uniformity: LeJEPA, SPHERE-JEPA and the family without projection noise."""

__all__ = ["JEPA"]

import math

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Discrepancy
from isosphere.methods.base import Loss, Method, embed_views, invariance, invariance_slope
from isosphere.methods.momentum import HORIZON, Momentum
from isosphere.methods.pairs import check_views, row_total, squared_distance
from isosphere.methods.weighting import (
    CUTOFF,
    balanced_weight,
    check_expansion,
    expansion_ratio,
    explain_expansion,
    signal_share,
    weight_of_expansion,
)
from isosphere.reductions import full_precision, row_counts


class JEPA(Method):
    r"""Views of an image agree with their centre while a discrepancy keeps the embeddings uniform.

    .. math:: \mathcal L = (1 - w) \frac1V \sum_v \frac1n \sum_i |\mu_i - z_{vi}|^2 + w \frac1V \sum_v D(z_v), \quad
              \mu_i = \frac{1}{V_g} \sum_{v \le V_g} z_{vi}

    On the sphere (``discrepancy.space``) every :math:`z_{vi}` is normalised before both terms; :math:`\mu_i` is not
    normalised again and carries gradient, unless a teacher makes it.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``.
        discrepancy: :class:`~isosphere.discrepancies.Discrepancy`; which one *is* the method: SUSReg is SPHERE-JEPA,
            SIGReg is LeJEPA, MMD, KSD and KL are its family.
        weight: w in (0, 1). expansion: the expansion ratio r* to take the weight from. Neither: the balanced weight
            (:mod:`isosphere.methods.weighting`), found at the first batch from n, the views and the discrepancy.
        cutoff: of the balanced weight, in (0, 1]: a direction is used iff its share of variance within images is
            below it. Larger spreads more. None: 1/2, and with random directions a lighter weight, by the share of their
            gradient that is signal (:func:`~isosphere.methods.signal_share`).
        teacher: momentum of an EMA copy of encoder and head that makes the centre
            (:class:`~isosphere.methods.Momentum`); None: no teacher. memory: the longest that it may remember, as
            a share of the training.
        global_views: how many of the views, the first ones, make the centre.

    *Parts*: ``invariance`` (summed over dimensions, averaged over views and rows), ``regulariser`` (averaged
    over views).

    *Reference.* SPHERE-JEPA (2605.26900); LeJEPA (2511.08544), which also averages over dimensions: its lambda is
    ``weight/(1 - weight) = d lambda/(1 - lambda)`` here; "Expanding SPHERE-JEPA" (2606.17603).
    """

    weight: Tensor

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
        if sum(given is not None for given in (weight, expansion, cutoff)) > 1:
            raise ValueError(
                f"got weight={weight}, expansion={expansion} and cutoff={cutoff}, expected one of them or none"
            )
        if cutoff is not None and not 0 < cutoff <= 1:
            raise ValueError(f"got cutoff={cutoff}, expected a share of variance in (0, 1]")
        if weight is not None and not 0 < weight < 1:
            raise ValueError(f"got weight={weight}, expected a number strictly between 0 and 1")
        if expansion is not None:
            check_expansion(expansion)
        if teacher is None and memory != HORIZON:
            raise ValueError(
                f"got memory={memory} and no teacher, expected a momentum too, e.g. teacher=0.996"
            )
        self.discrepancy, self.space = discrepancy, discrepancy.space
        self.expansion, self.cutoff = expansion, cutoff
        self.teacher = None if teacher is None else Momentum(nn.Sequential(encoder, head), teacher, memory)
        self.register_buffer("weight", torch.tensor(math.nan if weight is None else weight))
        self._given = self._resolved = weight is not None

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        check_views(views, self.global_views)
        z = self._embeddings(views)
        if self.teacher is None:
            return (z,)
        globals_ = embed_views(self.teacher, views[: self.global_views])
        with full_precision(z.device):
            return z, self._place(torch.stack(globals_))

    def combine(self, *outputs: Tensor) -> Loss:
        z, targets = outputs[0], outputs[-1]  # the teacher's, or the student's own
        return self.loss(z, targets[: self.global_views].mean(0))

    def loss(self, z: Tensor, centre: Tensor) -> Loss:
        """The loss of embeddings ``z`` ``(views, n, d)`` about a centre ``(n, d)``."""
        group = self.discrepancy.group
        with full_precision(z.device):
            counts = row_counts(z.shape[1], z.device, group)
            n = sum(counts)
            self._resolve(n, len(z))
            alone = len(counts) == 1
            agreement = invariance(z, centre) if alone else squared_distance(z, centre, n, group).mean()
            regulariser = self.discrepancy(z).mean()
            total = (1 - self.weight) * agreement + self.weight * regulariser
        return Loss(total, {"invariance": agreement.detach(), "regulariser": regulariser.detach()})

    def after_step(self, progress: float) -> None:
        self.discrepancy.after_step()
        if self.teacher is not None:
            self.teacher.follow(nn.Sequential(self.encoder, self.head), self.teacher.bounded(progress))

    def _slope(self, views: int) -> float:
        return invariance_slope(
            self.global_views, views - self.global_views, teacher=self.teacher is not None
        )

    def _resolve(self, n: int, views: int) -> None:
        """Fix the weight for batches of n rows; kept in the state dict, so that a resumed run goes on with it."""
        if self._resolved:
            return
        if math.isnan(self.weight.item()):
            slope = self._slope(views)
            if self.expansion is not None:
                self.weight.fill_(weight_of_expansion(self.discrepancy, self.expansion, n, slope))
            else:
                self.weight.fill_(balanced_weight(self.discrepancy, n, slope, cutoff=self.cutoff))
        self._resolved = True

    def _source(self, n: int) -> str:
        """Where the weight comes from, in words."""
        if self._given:
            return "given"
        if self.expansion is not None:
            return "from expansion"
        cutoff = f"balanced: r_c = {self.cutoff or CUTOFF:g}"
        if self.cutoff is None and self.discrepancy.random:
            share = signal_share(self.discrepancy, n)
            return f"{cutoff}; {share:.0%} of its gradient is signal, the rest noise of slices"
        return cutoff

    def expansion_ratio(self, n: int, views: int) -> float | None:
        if math.isnan(self.weight.item()):
            return None
        ratio = expansion_ratio(self.discrepancy, self.weight.item(), n, self._slope(views))
        return ratio if math.isfinite(ratio) else None

    @torch.no_grad()
    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        facts = {"discrepancy": f"{type(self.discrepancy).__name__}({self.discrepancy.extra_repr()})"}
        if views is None:
            return facts
        n = row_total(views[0].flatten(1), self.discrepancy.group)
        self._resolve(n, len(views))
        weight = self.weight.item()
        ratio = expansion_ratio(self.discrepancy, weight, n, self._slope(len(views)))
        facts["weight"] = (
            f"{weight:.4g} of the regulariser, {1 - weight:.4g} of the invariance ({self._source(n)})"
        )
        facts["expansion ratio"] = explain_expansion(ratio, self._within(views))
        return facts
