"""Multi-view prediction with a test of uniformity: LeJEPA, SPHERE-JEPA and the family without projection noise."""

__all__ = ["JEPA"]

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Discrepancy
from isosphere.methods.base import Loss, Method, embed_views, invariance, invariance_slope
from isosphere.methods.momentum import HORIZON, Momentum
from isosphere.methods.pairs import check_views, row_total, squared_distance
from isosphere.methods.regulariser import Pull, Regulariser
from isosphere.methods.weighting import explain_expansion
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
            (:mod:`isosphere.methods.weighting`), found by ``prepare`` from n, the views and the discrepancy.
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

    _renamed: ClassVar = {"discrepancy": "regulariser.discrepancy", "weight": "regulariser.weight"}

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
        self.regulariser = Regulariser(discrepancy, weight=weight, expansion=expansion, cutoff=cutoff)
        self.space = discrepancy.space
        self.teacher = None if teacher is None else Momentum(nn.Sequential(encoder, head), teacher, memory)

    @property
    def discrepancy(self) -> Discrepancy:
        return self.regulariser.discrepancy

    @property
    def weight(self) -> Tensor:
        """The weight of the regulariser; nan before ``prepare``."""
        return self.regulariser.weight

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
        return self._weighed(z, centre, self.regulariser)

    def _weighed(self, z: Tensor, centre: Tensor, regulariser: Regulariser) -> Loss:
        group = regulariser.discrepancy.group
        with full_precision(z.device):
            counts = row_counts(z.shape[1], z.device, group)
            n, alone = sum(counts), len(counts) == 1
            agreement = invariance(z, centre) if alone else squared_distance(z, centre, n, group).mean()
            total, spread = regulariser(agreement, z, self._pull(n, len(z)))
        return Loss(total, {"invariance": agreement.detach(), "regulariser": spread.detach()})

    def after_step(self, progress: float) -> None:
        self.regulariser.after_step()
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
