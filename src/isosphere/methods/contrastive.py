"""Contrastive methods: the views of an image attract, those of different images repel."""

__all__ = ["AlignUniform", "SimCLR", "nt_xent"]

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Uniformity
from isosphere.methods.base import Loss, Method
from isosphere.methods.pairs import row_mean, row_total, squared_distance, undirected_pairs
from isosphere.methods.weighting import expansion_ratio, explain_expansion
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

    Shape: unit rows ``(n, d)`` twice -> two scalars. *Scale.* Attraction from 0 to 4, 2 for unrelated rows;
    repulsion ``log(2n - 1)`` at collapse. *Cost.* O(n^2 d), one block of the 2n x 2n matrix in memory.
    *Reference.* SimCLR (2002.05709), equation 1.
    """
    z = torch.cat([x, y])
    n = row_total(x, group)
    repulsion = pair_log_sum(z, lambda c: (c - 1) / temperature, group=group) / (2 * n)
    return squared_distance(x, y, n, group), repulsion


class SimCLR(Method):
    r"""A view has to be told from the views of all other images: cross entropy over cosines.

    .. math:: \mathcal L = \text{mean over pairs } (g, v) \text{ of } \ell(z_g, z_v)

    with :math:`\ell` of :func:`nt_xent` on unit rows, g a global view and v any other. Two views: the published loss.
    Each pair has its own denominator: the 2n - 1 other rows of its two views.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``. As published the head has two layers
            (``ProjectionHead(2048, 128, 2048, last="normalised")``).
        temperature: tau; published .5 for CIFAR-10 and .1 for ImageNet. global_views: how many views are global.

    *Parts*: ``invariance``, the mean squared distance of the pairs (2 for unrelated views), and ``regulariser``, the
    repulsion: ``total = invariance / (2 tau) + regulariser``. There is no weight but the temperature: at collapse a
    direction grows if and only if its share of variance within images is below 1, whatever tau (r* = 1).

    *Reference.* Chen et al., 2002.05709, equation 1.
    """

    space = "sphere"

    def __init__(
        self, encoder: nn.Module, head: nn.Module, *, temperature: float = 0.5, global_views: int = 2
    ):
        super().__init__(encoder, head, global_views)
        if not temperature > 0:
            raise ValueError(f"got temperature={temperature}, expected a positive number (the paper: 0.5)")
        self.temperature = temperature

    def combine(self, *outputs: Tensor) -> Loss:
        return self.loss(*outputs)

    def loss(self, z: Tensor) -> Loss:
        """The loss of unit rows ``z`` ``(views, n, d)``."""
        with full_precision(z.device):
            attraction, repulsion = z.new_zeros(2).unbind()
            for a, b, share in undirected_pairs(self.global_views, len(z)):
                pull, push = nt_xent(z[a], z[b], self.temperature, self.group)
                attraction, repulsion = attraction + share * pull, repulsion + share * push
            total = attraction / (2 * self.temperature) + repulsion
        return Loss(total, {"invariance": attraction.detach(), "regulariser": repulsion.detach()})

    def expansion_ratio(self, n: int, views: int) -> float | None:
        return 1.0

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        return {
            "temperature": f"{self.temperature:g}",
            "expansion ratio": "r* = 1 at any temperature: every feature direction can grow from collapse",
        }


class AlignUniform(Method):
    r"""The two properties that contrastive losses have in the limit, optimised directly.

    .. math:: \mathcal L = (1 - w)\, \frac{1}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i |z_{gi} - z_{vi}|^\alpha +
              w\, \frac1V \sum_v \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t |z_{vi} - z_{vj}|^2}

    on unit rows; P: a global view with each other view.

    Args:
        encoder, head: modules; as published the head is one linear layer (``ProjectionHead(..., layers=1)``).
        weight: w in (0, 1); published: equal weights (.5) with t = 2, or alignment three times as heavy (.25) with
            t = 3 (ImageNet). power: alpha. t: of the Gaussian potential. global_views: how many views are global.

    *Parts*: ``invariance`` (2 for unrelated views at alpha = 2), ``regulariser`` (0 at collapse, negative otherwise).

    *Reference.* Wang and Isola, 2005.10242, section 4.
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

    def combine(self, *outputs: Tensor) -> Loss:
        return self.loss(*outputs)

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
