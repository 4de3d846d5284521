"""The nearest-neighbour estimate of entropy."""

__all__ = ["KoLeo"]

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.reductions import Group, nearest_log_distance


class KoLeo(Discrepancy):
    r"""Kozachenko-Leonenko regulariser: minus the mean log-distance to the nearest other row.

    .. math:: K = -\frac1n \sum_i \log \max\big(\min_{j \ne i} |z_i - z_j|, \epsilon\big)

    Args:
        epsilon: distance below which a pair has no gradient.
        dim: ambient dimension d; None: any.
        group: the ranks whose rows are the sample.

    Scale:
        Minus a differential entropy up to constants in n and d: smaller is more spread; ``-log eps`` at collapse,
        where the gradient is zero and the slope unbounded.
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n^2 d) in blocks; gradients reach both a row and its
        neighbour.
    Raises:
        ValueError: fewer than two rows.
    Reference:
        Sablayrolles et al., 1806.03198; DINOv2, 2304.07193.

    Example:
        >>> round(KoLeo()(torch.eye(4)).item(), 4)  # every distance is sqrt(2)
        -0.3466
    """

    self_pairs = False

    def __init__(self, epsilon: float = 1e-8, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)
        if not epsilon > 0:
            raise ValueError(f"got epsilon={epsilon}, expected a small positive number, e.g. 1e-8")
        self.epsilon = epsilon

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        if n < 2:
            raise ValueError(f"got {n} row(s), expected at least 2: there is no nearest neighbour")
        return -nearest_log_distance(z, floor=self.epsilon, group=self.group) / n

    def reference(self, z: Tensor) -> Tensor:
        itself = torch.eye(z.shape[-2], dtype=torch.bool, device=z.device)
        nearest = (z @ z.mT).detach().masked_fill(itself, -torch.inf).argmax(-1, keepdim=True)
        square = (z - z.take_along_dim(nearest, -2)).square().sum(-1)
        return -square.clamp(min=self.epsilon**2).log().mean(-1) / 2

    def slope(self, n: int) -> float:
        return float("inf")
