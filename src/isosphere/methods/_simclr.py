"""Contrast: the views of an image attract, those of different images repel."""

__all__ = ["Contrastive", "SimCLR", "nt_xent"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Discrepancy
from isosphere.methods._base import Loss, Method
from isosphere.methods._pairs import row_total, squared_distance, undirected_pairs
from isosphere.methods._registry import method
from isosphere.models import Encoder, ProjectionHead
from isosphere.reductions import Group, full_precision, pair_log_sum


def nt_xent(x: Tensor, y: Tensor, temperature: float, group: Group = None) -> tuple[Tensor, Tensor]:
    r"""Attraction and repulsion of the normalised temperature-scaled cross entropy of two views.

    .. math:: \ell = -\frac{1}{2n} \sum_{i=1}^{2n} \log
              \frac{e^{\langle z_i, z_{p(i)} \rangle/\tau}}{\sum_{j \ne i} e^{\langle z_i, z_j \rangle/\tau}}
              = \frac{1}{2\tau} \underbrace{\frac1n \sum_i |x_i - y_i|^2}_{\text{attraction}} +
              \underbrace{\frac{1}{2n} \sum_i \log \sum_{j \ne i} e^{(\langle z_i, z_j \rangle - 1)/\tau}
              }_{\text{repulsion}}

    over the 2n rows z of both views, :math:`p(i)` the other view of i. The repulsion is, up to a constant, the
    leave-one-out KL of z to the uniform law with the von Mises-Fisher kernel of concentration :math:`1/\tau`.

    Scale:
        Attraction from 0 to 4, 2 for unrelated rows; repulsion ``log(2n - 1)`` at collapse.
    Shape:
        Unit rows ``(n, d)`` twice to two scalars. O(n^2 d), one block of the 2n x 2n matrix in memory.
    Reference:
        SimCLR (2002.05709), equation 1.
    """
    return _attraction(x, y, group), _Repulsion(temperature, group)(torch.cat([x, y]))


def _attraction(x: Tensor, y: Tensor, group: Group) -> Tensor:
    return squared_distance(x, y, row_total(x, group), group)


class _Repulsion(Discrepancy):
    """The repulsion of :func:`nt_xent`, of the rows of both views: one operator of a compiled step."""

    self_pairs = False

    def __init__(self, temperature: float, group: Group = None):
        super().__init__(None, group=group)
        self.temperature = temperature

    def _statistic(self, z: Tensor) -> Tensor:
        return pair_log_sum(z, lambda c: (c - 1) / self.temperature, group=self.group) / self.count(z)

    def reference(self, z: Tensor) -> Tensor:
        logs = (z @ z.mT - 1) / self.temperature
        others = logs.masked_fill(torch.eye(z.shape[-2], dtype=torch.bool, device=z.device), -torch.inf)
        return others.logsumexp(-1).mean(-1)

    def slope(self, n: int) -> float:
        return 1 / self.temperature


def _contrast(z: Tensor, global_views: int, repel: _Repulsion) -> tuple[Tensor, Tensor]:
    """Attraction and repulsion of unit rows ``(views, n, d)``: means over the pairs of a global view and any other."""
    pairs = undirected_pairs(global_views, len(z))
    attractions = [_attraction(z[a], z[b], repel.group) for a, b, _ in pairs]
    repulsions = [repel(torch.cat([z[a], z[b]])) for a, b, _ in pairs]
    shares = [share for *_, share in pairs]
    return _weighted(shares, attractions), _weighted(shares, repulsions)


def _weighted(shares: list[float], values: list[Tensor]) -> Tensor:
    if len(values) == 1:  # its share is 1
        return values[0]
    return torch.stack([share * x for share, x in zip(shares, values, strict=True)]).sum()


class Contrastive(nn.Module):
    r"""NT-Xent as a term of another loss: :math:`(1 - w_c)\, \mathcal L + w_c\, \mathcal L_{\text{NT-Xent}}(z)`.

    Args:
        temperature: tau.
        weight: w_c in (0, 1).

    Shape:
        ``contrastive(loss, z, global_views)`` with unit rows ``(views, n, d)`` to total and NT-Xent, two scalars.

    Example:
        >>> collapsed = torch.eye(4)[:1].expand(2, 5, 4)
        >>> total, value = Contrastive(weight=0.25)(torch.tensor(1.0), collapsed, 2)
        >>> round(value.item(), 4), round(total.item(), 4)  # log 9 and .75 + .25 log 9
        (2.1972, 1.2993)
    """

    def __init__(self, temperature: float = 0.5, weight: float = 0.5):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"got temperature={temperature}, expected a positive number (SimCLR: 0.5)")
        if not 0 < weight < 1:
            raise ValueError(
                f"got a contrastive weight of {weight}, expected a number strictly between 0 and 1"
            )
        self.temperature, self.weight, self.repel = temperature, weight, _Repulsion(temperature)

    def forward(self, loss: Tensor, z: Tensor, global_views: int) -> tuple[Tensor, Tensor]:
        attraction, repulsion = _contrast(z, global_views, self.repel)
        value = attraction / (2 * self.temperature) + repulsion
        return (1 - self.weight) * loss + self.weight * value, value


class SimCLR(Method):
    r"""A view has to be told from the views of all other images: cross entropy over cosines.

    .. math:: \mathcal L = \text{mean over pairs } (g, v) \text{ of } \ell(z_g, z_v)

    with :math:`\ell` of :func:`nt_xent` on unit rows, g a global view and v any other. Two views: the published loss.
    Each pair has its own denominator: the 2n - 1 other rows of its two views.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``. As published the head has two layers
            (``ProjectionHead(2048, 128, 2048, last="normalised")``).
        temperature: tau; published .5 for CIFAR-10 and .1 for ImageNet.
        global_views: how many of the views, the first ones, are global.

    Scale:
        ``log(2n - 1)`` at collapse. There is no weight but the temperature: at collapse a direction grows if and only
        if its share of variance within images is below 1, whatever tau (r* = 1).
    Parts:
        ``invariance``, the mean squared distance of the pairs (2 for unrelated views), and ``regulariser``, the
        repulsion: ``total = invariance / (2 tau) + regulariser``.
    Reference:
        Chen et al., 2002.05709, equation 1.

    Example:
        >>> collapsed = torch.eye(4)[:1].expand(2, 5, 4)  # two views of five images
        >>> round(SimCLR(torch.nn.Identity(), torch.nn.Identity()).loss(collapsed).total.item(), 4)
        2.1972
    """

    space = "sphere"

    def __init__(
        self, encoder: nn.Module, head: nn.Module, *, temperature: float = 0.5, global_views: int = 2
    ):
        super().__init__(encoder, head, global_views)
        if not temperature > 0:
            raise ValueError(f"got temperature={temperature}, expected a positive number (the paper: 0.5)")
        self.temperature, self.repel = temperature, _Repulsion(temperature)

    @method("simclr", paper="SimCLR, arXiv 2002.05709", summary="contrastive cross entropy (NT-Xent)")
    @classmethod
    def from_encoder(
        cls, encoder: Encoder, *, dim: int = 128, hidden: int = 1024, **options: Any
    ) -> "SimCLR":
        """Published widths 2048-128."""
        return cls(encoder, ProjectionHead(encoder.feature_dim, dim, hidden, last="normalised"), **options)

    def loss(self, z: Tensor) -> Loss:
        """The loss of unit rows ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            attraction, repulsion = _contrast(z, self.global_views, self.repel)
            total = attraction / (2 * self.temperature) + repulsion
        return Loss(total, {"invariance": attraction.detach(), "regulariser": repulsion.detach()})

    def expansion_ratio(self, n: int, views: int) -> float | None:
        return 1.0

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "temperature": f"{self.temperature:g}",
            "expansion ratio": "r* = 1 at any temperature: every feature direction can grow from collapse",
        }
