"""Kullback-Leibler divergence to the uniform law, by a kernel density estimate."""

__all__ = ["KL"]

import math
from typing import Literal

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.kernels import ZonalKernel
from isosphere.reductions import Group, pair_log_sum
from isosphere.sphere import log_surface_area

_SCALES = ("unit", "nats", "paper")


class KL(Discrepancy):
    r"""Resubstituted Kullback-Leibler divergence between a kernel density estimate and the uniform law.

    .. math:: \mathrm{KL} = \frac1n \sum_i \log \frac{1}{n-1} \sum_{j \ne i} \frac{\phi(\langle z_i, z_j \rangle)}{p_0}
              \quad \text{(nats)}

    :math:`\phi/p_0` is a density with respect to the uniform law.

    Args:
        kernel: :math:`\phi`, positive on all of [-1, 1], for unit rows of its dimension.
        leave_one_out: False includes j = i (n terms).
        scale: the unit of the value, below.
        group: the ranks whose rows are the sample.

    Scale:
        ``"nats"``: 0 for a uniform population (a little below for n points), ``-log p_0`` at collapse.
        ``"unit"``: nats divided by ``-log p_0``: collapse 1, uniform 0. ``"paper"``: ``1 - mean log(...)/C`` with
        the printed ``C = log |S^{d-1}|``: collapse 1, uniform ``1 + log p_0 / (-C)`` (.914 at d = 256, t = 2/d).
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n^2 d), one block of the Gram matrix.
    Raises:
        ValueError: one row with ``leave_one_out``; a kernel without a logarithm; ``"paper"`` where ``C >= 0`` (d < 19:
            the sign flips).
    Numerics:
        Only ``kernel.log`` is used, accurate over all of [-1, 1].
    Reference:
        "Expanding SPHERE-JEPA" (2606.17603), KL regulariser.

    Example:
        >>> from isosphere.kernels import VonMisesFisherKernel
        >>> collapsed = torch.eye(8)[:1].expand(20, 8)
        >>> round(KL(VonMisesFisherKernel(8))(collapsed).item(), 4)
        1.0
    """

    def __init__(
        self,
        kernel: ZonalKernel,
        leave_one_out: bool = True,
        scale: Literal["unit", "nats", "paper"] = "unit",
        *,
        group: Group = None,
    ):
        super().__init__(kernel.dim, group=group)
        if scale not in _SCALES:
            raise ValueError(f"got scale={scale!r}, expected one of {_SCALES}")
        if scale == "paper" and log_surface_area(kernel.dim) >= 0:
            raise ValueError(
                f"got scale='paper' at dim={kernel.dim}, expected dim >= 19 (area below 1): use scale='unit'"
            )
        self.kernel = kernel
        self.leave_one_out = leave_one_out
        self.self_pairs = not leave_one_out
        self.scale = scale

    @property
    def unit(self) -> float:
        """Nats per unit of this scale."""
        if self.scale == "nats":
            return 1.0
        return -self.kernel.log_mean if self.scale == "unit" else -log_surface_area(self.dim)

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        others = n - 1 if self.leave_one_out else n
        if others < 1:
            raise ValueError(f"got {n} row(s), expected at least 2 to leave one out: use leave_one_out=False")
        uniform = 0.0 if self.scale == "paper" else self.kernel.log_mean
        nats = pair_log_sum(
            z,
            self.kernel.log,
            diagonal=not self.leave_one_out,
            centre=math.log(others) + uniform,
            group=self.group,
            series=self.kernel.log_series,
        )
        return (1 if self.scale == "paper" else 0) + nats / (n * self.unit)

    def reference(self, z: Tensor) -> Tensor:
        n = z.shape[-2]
        logs = self.kernel.log(z @ z.mT)
        if self.leave_one_out:
            logs = logs.masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), -torch.inf)
        estimate = (logs.logsumexp(-1) - math.log(n - self.leave_one_out)).mean(-1)
        return (
            1 + estimate / self.unit
            if self.scale == "paper"
            else (estimate - self.kernel.log_mean) / self.unit
        )

    def slope(self, n: int) -> float:
        one = torch.ones((), dtype=torch.float64)
        return self.kernel.derivative(one).item() / self.unit

    def extra_repr(self) -> str:
        return f"{self.kernel}, leave_one_out={self.leave_one_out}, scale={self.scale!r}"
