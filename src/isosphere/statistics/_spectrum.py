"""The spectrum of a sample's covariance and what it says in one number: how many directions are used."""

import torch
from torch import Tensor

from isosphere.reductions import in_float64

# Variance below this share of the mean square is the rounding of a float32 network, not variance.
_CONSTANT = 1e-12


def covariance_spectrum(z: Tensor) -> Tensor:
    """Eigenvalues of the centred covariance (divided by n - 1), descending.

    Shape:
        ``(*views, n, d)`` to float64 ``(*views, min(n, d))``; with n <= d the eigenvalues that are zero by
        construction beyond these are left out.
    Scale:
        Each about 1/d for uniform points on the sphere (exactly in expectation of their mean); all 0 at collapse.
    Raises:
        ValueError: fewer than two rows, or non-finite numbers.
    Numerics:
        float64, from the smaller of the two Gram matrices.
    """
    _check(z)
    x = in_float64(z)
    return _squared_singular_values(x - x.mean(-2, keepdim=True)) / (z.shape[-2] - 1)


def effective_rank(z: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values of the centred sample.

    .. math:: \\exp\\Big(-\\sum_k p_k \\log p_k\\Big), \\qquad p_k = \\sigma_k / \\sum_j \\sigma_j

    Shape:
        ``(*views, n, d)`` to float64 ``(*views,)``.
    Scale:
        1 for points on a line, min(n - 1, d) when all directions carry the same variance, 0 for a constant sample.
        It depends on n unless n is many times d: compare at equal n.
    Raises:
        ValueError: fewer than two rows, or non-finite numbers.
    Reference:
        O. Roy, M. Vetterli, The effective rank (EUSIPCO 2007), eq. 4; here after centring.
    """
    _check(z)
    x = in_float64(z)
    squares = _squared_singular_values(x - x.mean(-2, keepdim=True))
    constant = squares.sum(-1) <= _CONSTANT * x.square().sum((-2, -1))
    return torch.where(constant, 0.0, _exp_entropy(squares.sqrt()))


def rankme(z: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    """RankMe: effective rank of the sample as it is, not centred.

    .. math:: \\exp\\Big(-\\sum_k p_k \\log p_k\\Big), \\qquad p_k = \\sigma_k / \\|\\sigma\\|_1 + \\epsilon

    Shape:
        ``(*views, n, d)`` to float64 ``(*views,)``.
    Scale:
        1 at collapse, where :func:`effective_rank` is 0; up to min(n, d). Compare at equal n.
    Raises:
        ValueError: fewer than two rows, or non-finite numbers.
    Reference:
        Q. Garrido et al., RankMe (ICML 2023), eq. 1.
    """
    _check(z)
    return _exp_entropy(_squared_singular_values(in_float64(z)).sqrt(), epsilon)


def participation_ratio(z: Tensor) -> Tensor:
    """``(tr C)^2 / tr C^2`` of the centred covariance: number of directions that share the variance evenly.

    Shape:
        ``(*views, n, d)`` to float64 ``(*views,)``.
    Scale:
        1 for points on a line, d for a covariance that is a multiple of the identity, 0 for a constant sample.
    Raises:
        ValueError: fewer than two rows, or non-finite numbers.
    """
    _check(z)
    x = in_float64(z)
    squares = _squared_singular_values(x - x.mean(-2, keepdim=True))
    constant = squares.sum(-1) <= _CONSTANT * x.square().sum((-2, -1))
    ratio = squares.sum(-1).square() / squares.square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(constant, 0.0, ratio)


def _squared_singular_values(x: Tensor) -> Tensor:
    gram = x.mT @ x if x.shape[-1] <= x.shape[-2] else x @ x.mT
    return torch.linalg.eigvalsh(gram).flip(-1).clamp(min=0)


def _exp_entropy(values: Tensor, epsilon: float = 0.0) -> Tensor:
    p = values / values.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny) + epsilon
    return torch.special.entr(p).sum(-1).exp()


def _check(z: Tensor) -> None:
    if z.ndim < 2 or z.shape[-2] < 2:
        raise ValueError(f"z: got shape {tuple(z.shape)}, expected (*views, n, d) with at least two rows")
    if not torch.isfinite(z).all():
        raise ValueError("z: got non-finite numbers, expected finite ones")
