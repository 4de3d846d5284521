"""Scale and shape of free embeddings apart: each coordinate's deviation, and sliced Wasserstein distance to normal."""

__all__ = ["VISReg"]

import torch
from torch import Tensor

from isosphere.discrepancies._directed import Directed
from isosphere.reductions import Group, full_precision, row_counts, rows_of_all, wide

_FLOOR = 1e-6


class VISReg(Directed):
    r"""Scale, shape and centre, with the scale held fixed where the shape is judged.

    .. math:: D = \lambda_{\mathrm{scale}} \frac1d \sum_k (1 - \sigma_k)^2
              + \lambda_{\mathrm{shape}} \frac1M \sum_m \frac1n \sum_i \Big( \Big\langle \frac{z - \bar z}{\mathrm{sg}
              (\sigma)}, a_m \Big\rangle_{(i)} - \Phi^{-1}\Big(\frac{i}{n + 1}\Big) \Big)^2
              + \lambda_{\mathrm{centre}} \frac1d |\bar z|^2

    with the deviation :math:`\sigma_k` of each coordinate over the batch of all ranks (divided by n, at least 1e-6),
    the order statistics of the projections, and no gradient through the :math:`\sigma` that divides.

    Args:
        dim: dimension d of the embeddings.
        num_slices: M.
        scale, shape, centre: the three weights (published: 1 each).
        seed: of the directions.
        group: the ranks whose rows are the sample.

    Scale:
        About 0 for points of N(0, I), ``scale`` and nearly ``shape`` more where all rows are 0. The slope at collapse
        is unbounded: the deviation, not the variance, is pulled to 1.
    Shape:
        ``(*views, n, d)`` of free rows to ``(*views,)``. O(n M (d + log n)).
    State:
        ``draw``: how many times the directions moved; call ``after_step()`` once a step.
    Raises:
        ValueError: no slices, a negative weight.
    Reference:
        VISReg (2606.02572), equations 1 to 7. Squared norms are means over rows and coordinates, as in its released
        code (by the description of others: neither code was taken nor run); its text prints sums.

    Example:
        >>> round(VISReg(4, num_slices=16)(torch.zeros(3, 4)).item(), 2)
        1.3
    """

    space = "euclidean"
    self_pairs = False
    rotation_invariant = False

    def __init__(
        self,
        dim: int,
        num_slices: int = 1024,
        scale: float = 1.0,
        shape: float = 1.0,
        centre: float = 1.0,
        seed: int = 0,
        *,
        group: Group = None,
    ):
        super().__init__(dim, num_slices, seed, group)
        if min(scale, shape, centre) < 0:
            raise ValueError(
                f"got scale={scale}, shape={shape}, centre={centre}, expected weights of at least 0"
            )
        self.scale, self.shape, self.centre = scale, shape, centre

    def _statistic(self, z: Tensor) -> Tensor:
        counts = row_counts(z.shape[-2], z.device, self.group)
        return self.reference(rows_of_all(z, counts, self.group))

    def reference(self, z: Tensor) -> Tensor:
        with full_precision(z.device):  # a block of autocast would round the projections
            return self._of(wide(z))

    def _of(self, z: Tensor) -> Tensor:
        n, mean = z.shape[-2], z.mean(-2, keepdim=True)
        rows = z - mean
        deviation = rows.square().mean(-2, keepdim=True).clamp_min(_FLOOR**2).sqrt()
        projections = (rows / deviation.detach()) @ self.directions(z).mT
        levels = torch.arange(1, n + 1, dtype=torch.float64, device=z.device) / (n + 1)
        quantiles = torch.special.ndtri(levels).to(z.dtype)[:, None]
        scale = (1 - deviation).square().mean((-2, -1))
        shape = (projections.sort(dim=-2).values - quantiles).square().mean((-2, -1))
        return self.scale * scale + self.shape * shape + self.centre * mean.square().mean((-2, -1))

    def slope(self, n: int) -> float:
        return float("inf")

    def extra_repr(self) -> str:
        weights = f"scale={self.scale:g}, shape={self.shape:g}, centre={self.centre:g}"
        return f"dim={self.dim}, num_slices={self.num_slices}, {weights}"
