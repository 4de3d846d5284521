"""A JEPA at two depths: of the head's embeddings and of the features that are kept when the head is thrown away."""

__all__ = ["DeepJEPA"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Discrepancy
from isosphere.methods.base import Loss, embed_views
from isosphere.methods.jepa import JEPA
from isosphere.methods.pairs import check_views
from isosphere.methods.regulariser import Regulariser
from isosphere.reductions import full_precision


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

    *Parts*: ``invariance`` and ``regulariser`` of the embeddings, ``features_invariance`` and
    ``features_regulariser`` of the features.

    *Reference.* This library's own: the estimators for which uniformity is optimal read features, the papers spread
    embeddings. Better than the embeddings alone on photographs, worse on textures (docs/methods.md).
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
        weights = {name: options.get(name) for name in ("weight", "expansion", "cutoff")}
        self.features = Regulariser(features, **weights)
        self.standardise = nn.BatchNorm1d(features.dim, affine=False)

    def _network(self, x: Tensor) -> Tensor:
        """Standardised features and the head's outputs, one after the other."""
        features = self.encoder(x)
        return torch.cat([self.standardise(features), self.head(features)], -1)

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        check_views(views, self.global_views)
        raw = torch.stack(embed_views(self._network, views))
        width = self.features.discrepancy.dim
        with full_precision(raw.device):
            return self._place(raw[..., width:]), self._place(raw[..., :width])

    def combine(self, *outputs: Tensor) -> Loss:
        z, y = outputs
        deep = self._weighed(z, z[: self.global_views].mean(0), self.regulariser)
        shallow = self._weighed(y, y[: self.global_views].mean(0), self.features)
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
