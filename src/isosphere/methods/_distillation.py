"""Learning what another network sees, for a smaller one: regression on its features, without labels."""

__all__ = ["DISTILLATION", "Distillation", "distillation_targets"]

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from isosphere.methods._base import Loss, Regularised, embed_views
from isosphere.methods._pairs import row_mean, row_total
from isosphere.methods._registry import method
from isosphere.methods._regulariser import Discrepant, Pull, Regulariser
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import full_precision, in_float64

DISTILLATION = "distillation"

# The cosine is half of a squared distance to a target that does not move.
_SLOPE = 0.5


class Distillation(Regularised):
    r"""A network learns the features of another, the teacher, through a linear map to the unit sphere.

    .. math:: \mathcal L = \frac1V \sum_v \frac1n \sum_i \big(1 - \langle z_{vi}, t_i \rangle\big),
              \qquad z = \frac{A f(x)}{|A f(x)|}

    with unit targets :math:`t_i`, one an image, however many views there are of it: what the teacher says of the whole
    picture, each view is to say (:func:`distillation_targets`).

    ``views`` are those of the images and, last, the targets, ``(n, d, 1, 1)``.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``; the head is a linear map.
        regulariser: of the embeddings, :math:`(1 - w) \mathcal L + w\, \frac1V \sum_v D(z_v)`; None: none.
        global_views: how many of the views, the first ones, are global, at least 1.

    Scale:
        0 where the teacher is matched, 1 for embeddings that have nothing to do with it, 2 for the opposite.
    Parts:
        ``cosine distance``, the mean of :math:`1 - \langle z, t \rangle`.
    Raises:
        ValueError: no view, or targets of another shape.
    Reference:
        Romero et al., FitNets, 1412.6550, equation 3 (regression through a learned map); Beyer et al., Knowledge
        distillation: a good teacher is patient and consistent, 2106.05237 (the fixed teacher of section 3).

    Example:
        >>> nothing, targets = torch.nn.Identity(), torch.eye(4)
        >>> Distillation(nothing, nothing).loss(3 * targets[None], targets[None]).total.item()
        0.0
    """

    space = "sphere"

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        regulariser: Regulariser | None = None,
        global_views: int = 1,
    ):
        super().__init__(encoder, head, global_views)
        self.regulariser = regulariser

    @method(DISTILLATION, paper="FitNets, arXiv 1412.6550", summary="learn the features of another network")
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int = 256,
        hidden: int = 1024,
        layers: int = 1,
        regulariser: Discrepant | None = None,
        weight: float | None = None,
        **options: Any,
    ) -> "Distillation":
        """A linear head (``layers=1``) of as many dimensions as the targets have."""
        head = ProjectionHead(encoder.feature_dim, dim, hidden, layers)
        return cls(encoder, head, regulariser=Regulariser.of(regulariser, dim, weight), **options)

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Embeddings ``(views, n, d)`` and targets ``(1, n, d)``."""
        *images, targets = views
        if not images or len(targets) != len(images[0]):
            raise ValueError(
                f"got {len(images)} view(s) and targets of shape {tuple(targets.shape)}, expected views of n images "
                "and last their targets, (n, d, 1, 1)"
            )
        raw = torch.stack(embed_views(self._network, images))
        targets = targets.flatten(1)
        if targets.shape[1] != raw.shape[2]:
            raise ValueError(f"got targets of {targets.shape[1]} dimensions, expected {raw.shape[2]}")
        with full_precision(raw.device):
            return self._place(raw), targets.to(raw.device)[None]

    def loss(self, z: Tensor, targets: Tensor) -> Loss:
        """The loss of embeddings ``(views, n, d)`` and unit targets ``(1, n, d)``."""
        with full_precision(z.device):
            z = self._place(z)
            distance = 1 - (z * targets.to(z.dtype)).sum(-1)
            mean = row_mean(distance.mean(0), row_total(z, self.group), self.group)
            return self._regularised(Loss(mean, {"cosine distance": mean.detach()}), z)

    def _pull(self, n: int, views: int) -> Pull:
        return Pull(n, views, _SLOPE, self.space)

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return self._regulariser_facts()


@torch.no_grad()
def distillation_targets(features: Tensor, dim: int) -> Tensor:
    r"""What a network is to learn of a teacher's features: where these point, seen from their mean.

    .. math:: t_i = \frac{P (u_i - \bar u)}{|P (u_i - \bar u)|}, \qquad u_i = \frac{y_i}{|y_i|}

    with P the first ``dim`` principal directions of all u; where there are fewer, the rest of a target is 0. Rows that
    are not finite, of images that the teacher could not see, have no part in it and stay so.

    Shape:
        ``(n, p)`` to ``(n, dim)``, unit rows in float32.
    Numerics:
        float64; an eigen-decomposition of size p. An image at the mean itself has a target of zeros.
    Raises:
        ValueError: fewer than two rows that can be used.
    """
    seen = features.isfinite().all(1) & (features.norm(dim=1) > 0)
    if seen.sum() < 2:
        raise ValueError(f"got features of {int(seen.sum())} images, expected at least 2")
    unit = functional.normalize(in_float64(features[seen]), dim=1)
    centred = unit - unit.mean(0)
    variance, directions = torch.linalg.eigh(centred.T @ centred)
    principal = directions.flip(1)[:, :dim] * (variance.flip(0)[:dim] > 0)
    targets = features.new_full((len(features), dim), float("nan"), dtype=torch.float32)
    found = functional.normalize(centred @ principal, dim=1).float()
    targets[seen] = functional.pad(found, (0, dim - found.shape[1]))
    return targets
