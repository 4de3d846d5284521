"""Which rows are near which: whether neighbours stay when a network changes, and whether two views find each other."""

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
