"""A short polynomial in place of a long series, without moving the mean.

Dropping the tail of a Chebyshev series changes the mean of a kernel under the uniform law by the size of the
tail, and near uniformity an MMD is the small difference of two means. So the polynomial keeps the first three
Gegenbauer coefficients exactly, and only the others make up for the tail, by least squares at Chebyshev
points.
"""

import math

import numpy as np
import torch
from torch import Tensor

from isosphere.sphere import gegenbauer

__all__ = ["fold", "horner"]

_DEGREE = 24  # a longer sum is slower than Clenshaw's and loses digits
_TRUNCATION = 1e-8  # of the largest value
_ROUNDING = 2.4e-7  # of the largest value: two units in the last place of float32 at 1


def horner(x: Tensor, a: tuple[float, ...]) -> Tensor:
    """``a_0 + x (a_1 + x (a_2 + ...))``."""
    if len(a) == 1:
        return torch.full_like(x, a[0])
    y = x * a[-1] + a[-2]
    for k in range(len(a) - 3, -1, -1):
        y = y * x + a[k]
    return y


def fold(series: np.ndarray, kept: np.ndarray | None, dim: int) -> tuple[float, ...] | None:
    """Monomial coefficients of the shortest accurate polynomial, or None if float32 would lose digits in it.

    Args:
        series: Chebyshev coefficients of the function on [-1, 1].
        kept: its first Gegenbauer coefficients (normalised to P_l(1) = 1) in dimension dim, to be kept; None:
        none. dim: the dimension in which they are coefficients.
    """
    points = np.cos((np.arange(257) + 0.5) * (math.pi / 257))
    exact = np.polynomial.chebyshev.chebval(points, series)
    largest = np.abs(exact).max()
    for degree in range(min(_DEGREE, series.size - 1) + 1):
        candidate = _truncated(series, degree) if kept is None else _kept(points, exact, kept, degree, dim)
        if candidate is None:
            continue
        if np.abs(np.polynomial.chebyshev.chebval(points, candidate) - exact).max() <= _TRUNCATION * largest:
            monomials = tuple(float(v) for v in np.polynomial.chebyshev.cheb2poly(candidate))
            return monomials if _rounding(monomials, candidate) <= _ROUNDING * largest else None
    return None


def _truncated(series: np.ndarray, degree: int) -> np.ndarray:
    return series[: degree + 1]


def _kept(
    points: np.ndarray, exact: np.ndarray, kept: np.ndarray, degree: int, dim: int
) -> np.ndarray | None:
    """Chebyshev coefficients of ``sum_{l <= 2} kept_l P_l`` plus the best combination of P_3, P_4, ..."""
    if degree + 1 < kept.size:
        return None
    basis = gegenbauer(torch.from_numpy(points), degree, dim).numpy()
    free = basis[:, kept.size :]
    rest = exact - basis[:, : kept.size] @ kept
    best = free @ np.linalg.lstsq(free, rest, rcond=None)[0] if free.shape[1] else 0.0
    values = basis[:, : kept.size] @ kept + best
    # The points are the nodes of a type-II transform of their own number: the projection is exact.
    k = np.arange(degree + 1)
    transform = np.cos(np.outer(k, np.arccos(points))) * (2 / points.size)
    transform[0] /= 2
    return transform @ values


def _rounding(monomials: tuple[float, ...], series: np.ndarray) -> float:
    """Largest error of the float32 Horner sum against the float64 value of the same polynomial."""
    x = torch.cos(torch.linspace(0, math.pi, 4001, dtype=torch.float64, device="cpu")).float()
    exact = np.polynomial.chebyshev.chebval(x.double().numpy(), series)
    return float(np.abs(horner(x, monomials).double().numpy() - exact).max())
