"""Features with their variances, or all that they correlate in, made equal."""

import torch
from torch import Tensor

from isosphere.evaluation._labels import judged
from isosphere.statistics import inverse_root, shrunk

_BLOCK = 1 << 22
"""Numbers that are looked at together where all of them would be too many in float64: 32 MiB."""

WHITENING = 0.1
"""Shrinkage of :func:`standardised` at which an encoder's features are whitened for neighbours.

Of .001 to 1 near the best on CIFAR-10 for those of KL, of BYOL and of an untrained encoder.
"""


def standardised(train: Tensor, *others: Tensor, shrinkage: float = 1.0) -> tuple[Tensor, ...]:
    """Features with mean 0 and variance 1 on the training rows; other sets by the same shift and scale.

    Below 1, `shrinkage` s decorrelates them as well: by the inverse square root of ``(1 - s) R + s I`` with R
    the correlation matrix of the training rows. 0 is full whitening. A feature that is constant on the
    training rows becomes 0.

    Shape: ``(n, p)`` each, float32 out. Raises: ValueError for a shrinkage outside [0, 1], no training rows, or some
    that are not finite.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage: got {shrinkage}, expected 0 (whitened) to 1 (each feature by itself)")
    train = judged(train)
    mean, second = moments(train)
    std = second.diagonal().clamp(min=0).sqrt()
    largest = torch.zeros_like(std)
    for part in _split(train):
        largest = torch.maximum(largest, part.abs().amax(0).double())
    scale = torch.where(std > 1e-9 * largest.clamp(min=1e-30), 1 / std, 0.0)
    basis = scale.diag()
    if shrinkage < 1:
        basis = basis @ inverse_root(shrunk(scale[:, None] * second * scale, shrinkage))
    return tuple(projected(x.to(mean.device), mean, basis) for x in (train, *map(judged, others)))


def _split(x: Tensor, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """Blocks of rows; as many in each as in those of another matrix, if one is given."""
    return x.split(max(1, _BLOCK // max(1, (x if like is None else like).shape[1])))


def moments(x: Tensor, *, unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean ``(p,)`` and covariance ``(p, p)`` of rows, divided by n; float64, block by block, nothing is copied.

    Args:
        x: ``(n, p)``, of any number type. unit: what 1 is in it (255 for bytes that stand for values in [0, 1]).

    Raises: ValueError for no rows, or some that are not finite.
    """
    # Added up in place: results that stay between blocks that go would keep the heap from using these again.
    mean = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for part in _split(x):
        mean += part.sum(0, dtype=torch.float64)
    mean /= len(x)
    require_finite(mean)
    covariance = mean.new_zeros(x.shape[1], x.shape[1])
    for part in _split(x):
        centred = part.double() - mean
        covariance.addmm_(centred.T, centred)
    return mean / unit, covariance / (len(x) * unit**2)


def require_finite(mean: Tensor) -> None:
    """Raises: ValueError if a mean shows that there were no training rows, or one of them is not finite."""
    if not torch.isfinite(mean).all():
        raise ValueError(
            "train: got no rows or non-finite numbers, expected finite ones; drop or repair these rows first"
        )


def projected(x: Tensor, mean: Tensor, basis: Tensor, *, unit: float = 1.0) -> Tensor:
    """``(x / unit - mean) @ basis`` in float64 block by block: ``(n, p)`` to float32 ``(n, q)``."""
    out = torch.empty(len(x), basis.shape[1], device=x.device)
    for part, rows in zip(_split(x), _split(out, like=x), strict=True):
        rows.copy_((part.double() / unit - mean) @ basis)
    return out
