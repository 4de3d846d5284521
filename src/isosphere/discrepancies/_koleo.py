"""The nearest-neighbour estimate of entropy."""

__all__ = ["KoLeo"]

from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.reductions import Group, nearest_log_distance


class KoLeo(Discrepancy):
    r"""Kozachenko-Leonenko regulariser: minus the mean log-distance to the nearest other row.

    .. math:: K = -\frac1n \sum_i \log \max\big(\min_{j \ne i} |z_i - z_j|, \epsilon\big)

    *Scale.* Minus a differential entropy up to constants in n and d: smaller is more spread; ``-log eps`` at
    collapse, where the gradient is zero and the slope unbounded. *Shape.* ``(*views, n, d)`` of unit rows ->
    ``(*views,)``. *Cost.* O(n^2 d) in blocks; gradients reach both a row and its neighbour. *Raises* ValueError
    for fewer than two rows.

    *Reference.* Sablayrolles et al., 1806.03198; DINOv2, 2304.07193.
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

    def slope(self, n: int) -> float:
        return float("inf")
