"""Roots of covariances, by which features are decorrelated."""

import torch
from torch import Tensor

from isosphere.statistics._within import within_covariance

_ROUNDING = 1e-24
"""Of the mean square: views that differ by less, in float64, do not differ."""


def shrunk(matrix: Tensor, shrinkage: float) -> Tensor:
    """Towards the identity, the target of a matrix whose diagonal is 1 on average."""
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return (1 - shrinkage) * matrix + shrinkage * eye


def inverse_root(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix; directions without variance become 0."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    inverse = torch.where(eigenvalues > 1e-10 * eigenvalues[-1], eigenvalues.clamp(min=0) ** -0.5, 0.0)
    return (vectors * inverse) @ vectors.T


def within_root(views: Tensor, shrinkage: float) -> Tensor:
    r"""Inverse root of the covariance W of an image's views, ``(V, n, p)`` to ``(p, p)``: within-class covariance
    normalisation with each image as a class of its own.

    .. math:: W_s^{-1/2}, \qquad W_s = (1 - s) \frac{p}{\operatorname{tr} W} W + s I

    The identity where the views do not differ.

    Reference:
        Hatch, Kajarekar and Stolcke, 2006.
    """
    within = within_covariance(views)
    scale = within.diagonal().mean()
    apart = scale > _ROUNDING * views.square().mean()
    return inverse_root(shrunk(within / scale if apart else torch.zeros_like(within), shrinkage))
