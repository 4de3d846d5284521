"""How close the views of an image are, and how far apart the images: alignment, uniformity, mean cosine."""

import torch
from torch import Tensor

from isosphere.reductions import in_float64, pair_mean

COLLAPSED = 0.95
"""Mean cosine between different images above which embeddings hold next to nothing (of an untrained network it is often
.99).
"""


def alignment(views: Tensor) -> Tensor:
    """Mean squared distance between two views of the same image.

    .. math:: \\frac{1}{n \\binom{V}{2}} \\sum_i \\sum_{v < w} |z_{iv} - z_{iw}|^2
              = \\frac{2 V}{V - 1} \\cdot \\frac{1}{n V} \\sum_{i, v} |z_{iv} - \\bar z_i|^2

    Shape:
        ``(views, n, d)``, at least two views, to a number.
    Scale:
        With unit rows 0 at perfect alignment and at collapse, 2 for unrelated views of a spread-out encoder; with V
        views it is ``2 V / (V - 1)`` times the invariance term whose centre is the mean of all views.
    Raises:
        ValueError: another shape.
    Reference:
        T. Wang, P. Isola, arXiv 2005.10242, eq. 3 with alpha = 2.
    """
    if views.ndim != 3 or views.shape[0] < 2:
        raise ValueError(
            f"views: got shape {tuple(views.shape)}, expected (views, n, d) with at least two views"
        )
    x = views.to(torch.promote_types(views.dtype, torch.float32))
    return 2 * x.var(dim=0, correction=1).sum(-1).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean Gaussian potential between different rows.

    .. math:: \\log \\frac{1}{n (n - 1)} \\sum_{i \\ne j} \\exp(-t |z_i - z_j|^2)

    Shape:
        Unit rows ``(*views, n, d)``, at least two, to ``(*views,)``. Differentiable; memory does not grow with n^2.
    Scale:
        0 at collapse, its largest value; the smallest possible population value is that of the uniform law, ``-2 t
        + log 0F1(; d/2; t^2)``, close to -2t in high dimension.
    Raises:
        ValueError: fewer than two rows.
    Reference:
        T. Wang, P. Isola, arXiv 2005.10242, eq. 4.
    """
    _rows(z)
    x = z.to(torch.promote_types(z.dtype, torch.float32))

    def potential(c: Tensor, order: int) -> Tensor:
        return (2 * t) ** order * (2 * t * (c - 1)).exp()

    return pair_mean(x, potential, diagonal=False, group=False).log()


def mean_cosine(z: Tensor) -> Tensor:
    """Mean inner product of different rows: their mean cosine if the rows are unit vectors.

    .. math:: \\frac{1}{n (n - 1)} \\sum_{i \\ne j} \\langle z_i, z_j \\rangle
              = \\frac{n^2 |\\bar z|^2 - \\sum_i |z_i|^2}{n (n - 1)}

    Shape:
        ``(*views, n, d)``, at least two rows, to ``(*views,)``.
    Scale:
        1 at collapse, 0 for the uniform law (in expectation exactly), at least -1 / (n - 1).
    Raises:
        ValueError: fewer than two rows.
    Numerics:
        float64, linear time.
    """
    n = _rows(z)
    x = in_float64(z)
    return (x.sum(-2).square().sum(-1) - x.square().sum((-2, -1))) / (n * (n - 1))


def _rows(z: Tensor) -> int:
    if z.ndim < 2 or z.shape[-2] < 2:
        raise ValueError(f"z: got shape {tuple(z.shape)}, expected (*views, n, d) with at least two rows")
    return z.shape[-2]
