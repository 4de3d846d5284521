"""The uniformity of Wang and Isola."""

__all__ = ["Uniformity"]

import torch
from torch import Tensor

from isosphere.discrepancies._base import Discrepancy
from isosphere.reductions import Group, pair_mean


class Uniformity(Discrepancy):
    r"""Logarithm of the mean Gaussian potential of the pairs.

    .. math:: U = \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t |z_i - z_j|^2}

    The logarithm of the U-statistic of an MMD with the von Mises-Fisher kernel of concentration ``2 t``, up to
    an affine map; an upper bound of the KL with that kernel (Jensen).

    Args:
        t: of the potential; the papers' is 2.
        dim: ambient dimension d; None: any.
        group: the ranks whose rows are the sample.

    Scale:
        0 at collapse, :math:`-2t + \log {}_0F_1(; d/2; t^2)` for a uniform population (-3.97 at t = 2, d = 256); always
        negative otherwise.
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n^2 d), one block in memory.
    Raises:
        ValueError: fewer than two rows.
    Reference:
        Wang and Isola, 2005.10242, L_uniform; the regulariser of 2105.00925.

    Example:
        >>> round(Uniformity()(torch.eye(4)).item(), 4)  # every squared distance is 2
        -4.0
    """

    self_pairs = False

    def __init__(self, t: float = 2.0, *, dim: int | None = None, group: Group = None):
        super().__init__(dim, group=group)
        if not t > 0:
            raise ValueError(f"got t={t}, expected a positive number (the papers: 2)")
        self.t = t

    def _statistic(self, z: Tensor) -> Tensor:
        c2 = 2 * self.t  # exp(-t |x - y|^2) = exp(2 t (c - 1))

        def potential(c: Tensor, order: int) -> Tensor:
            value = torch.exp(c2 * (c - 1))
            return value * c2**order if order else value

        return pair_mean(z, potential, diagonal=False, group=self.group).log()

    def reference(self, z: Tensor) -> Tensor:
        n = z.shape[-2]
        square = (z.unsqueeze(-2) - z.unsqueeze(-3)).square().sum(-1)
        others = ~torch.eye(n, dtype=torch.bool, device=z.device)
        return (torch.exp(-self.t * square) * others).sum((-2, -1)).div(n * (n - 1)).log()

    def slope(self, n: int) -> float:
        return 2 * self.t

    def extra_repr(self) -> str:
        return f"t={self.t:g}"
