"""Which rows are near which: whether neighbours stay when a network changes, whether two views find each other, and how
neighbourhoods lie: whether some rows are everybody's neighbours, and whether neighbours surround a row.
"""

import torch
from torch import Tensor

from isosphere.reductions import nearest_neighbours


def neighbours_kept(before: Tensor, after: Tensor, k: int = 20) -> Tensor:
    r"""For each row the share of its k nearest others by cosine that are still among them.

    .. math:: \frac1k \big| N_k(x_i) \cap N_k(y_i) \big|

    Shape:
        ``(n, p)`` and ``(n, q)``, the same n rows before and after, to float64 ``(n,)``.

    Scale:
        1 if nothing has changed, k / (n - 1) in the mean for features that have nothing to do with each other.

    Raises:
        ValueError: other shapes, k outside 1..n-1, or values that are not finite.
    """
    if before.ndim != 2 or after.ndim != 2 or len(before) != len(after) or not 1 <= k < len(before):
        raise ValueError(
            f"before, after, k: got shapes {tuple(before.shape)} and {tuple(after.shape)} and {k}, expected (n, p), "
            "(n, q) and 1 to n - 1 neighbours"
        )
    rows = torch.arange(len(before), device=before.device)
    near = [nearest_neighbours(x, x, k, cosine=True, exclude=rows.to(x.device))[1] for x in (before, after)]
    shared = near[0][:, :, None] == near[1].to(near[0].device)[:, None, :]
    return shared.sum((1, 2)).double() / k


def two_view_hits(views: Tensor) -> Tensor:
    """For each row how often its other view is the nearest of all rows there, by cosine: 0, 1/2 or 1.

    The mean is the two-view Recall@1, both views asking.

    Shape:
        ``(2, n, p)`` to float64 ``(n,)``.

    Scale:
        1 where every image is told from the others, 1 / n by chance; comparable at one n.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    if views.ndim != 3 or len(views) != 2:
        raise ValueError(f"views: got shape {tuple(views.shape)}, expected (2, n, p)")
    rows = torch.arange(views.shape[1], device=views.device)
    found = [nearest_neighbours(views[v], views[1 - v], 1, cosine=True)[1][:, 0] == rows for v in (0, 1)]
    return torch.stack(found).double().mean(0)


def k_occurrences(near: Tensor) -> Tensor:
    r"""How many rows have each row among their neighbours: the in-degrees of the k-NN graph.

    Shape:
        indices ``(n, k)`` of the k nearest others of each row to float64 ``(n,)``.

    Scale:
        k in the mean. A row of 0 is an antihub; the skewness of the counts is a few tenths for points spread alike
        everywhere, and grows where few rows, hubs, are in most lists.

    Reference:
        Radovanovic, Nanopoulos, Ivanovic, Hubs in Space, JMLR 11 (2010).
    """
    return torch.bincount(near.flatten(), minlength=len(near)).double()


def neighbour_directions(x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    r"""Whether its neighbours surround a row: mean cosine, and mean squared cosine, of two directions to them.

    .. math:: \frac{1}{k(k-1)} \sum_{a \ne b} \langle u_a, u_b \rangle, \qquad
              \frac{1}{k(k-1)} \sum_{a \ne b} \langle u_a, u_b \rangle^2, \qquad
              u_a = \frac{x_a - \langle x, x_a \rangle x}{|x_a - \langle x, x_a \rangle x|}

    with unit rows, so that the :math:`u_a` are the tangent directions of the ways to the neighbours.

    Shape:
        unit rows ``(n, p)`` and those of their neighbours ``(n, k, p)`` to two ``(n,)``; nan where fewer than two
        neighbours lie elsewhere than the row.

    Scale:
        The first is 0 where a row is in the middle of its neighbours (uniform points) and 1 where all lie on one side;
        the second 1 / (p - 1) where they lie alike in every direction, 1 where they lie on a line.

    Reference:
        SPHERE-JEPA (2605.26900), figure 1: under a Gaussian neighbourhoods are skewed towards the denser side, under
        the uniform law they are not.
    """
    own = x[:, None]
    tangents = others - (others * own).sum(-1, keepdim=True) * own
    lengths = tangents.norm(dim=-1, keepdim=True)
    apart = lengths > 1e-6  # of a copy there is no direction
    u = torch.where(apart, tangents / lengths.clamp_min(1e-6), 0.0)
    gram, count = u @ u.mT, apart.sum((1, 2)).to(x.dtype)
    pairs = count * (count - 1)

    def mean(sums: Tensor) -> Tensor:
        return torch.where(pairs > 0, (sums - count) / pairs, torch.nan)

    return mean(gram.sum((1, 2))), mean(gram.square().sum((1, 2)))
