"""Chebyshev fits of a kernel's profiles, once per kernel, in float64.

A kernel offers two *profiles*, its value and its logarithm, and samples every derivative of them exactly but
slowly (``kernel.samples``). The samples are taken here, at Chebyshev points, and become the shortest sum that
evaluates the profile: of monomials for float32 where that loses nothing, else of Chebyshev polynomials.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isosphere.kernels._folding import fold

if TYPE_CHECKING:
    from isosphere.kernels._zonal import ZonalKernel

__all__ = ["Plan", "Profile", "folded_polynomial", "plan", "stretched"]

Profile = Literal["value", "log"]

_FIRST, _LAST = 24, 1 << 14  # degrees of the first and of the longest fit
_DIRECT, _NARROW = 64, 0.15  # an exact logarithm of a higher degree in c, or this narrow, is fitted stretched
_SINGLE, _DOUBLE = 1e-9, 4e-16  # tail of a trimmed series, relative to the sum of its coefficients


class Plan(NamedTuple):
    """How a profile is summed: ``sum_k a_k x^k`` or ``sum_k a_k T_k(x)``, perhaps times ``c - 1``."""

    monomial: bool
    vanishing: bool  # times c - 1
    width: float  # 0: x = c, else x is the stretched cosine of this width
    coefficients: tuple[float, ...]


@lru_cache(maxsize=1024)
def plan(kernel: "ZonalKernel", profile: Profile, order: int, single: bool) -> Plan:
    """The sum to use in float32 (single) or float64.

    Raises:
        ValueError: the profile needs more than 16,384 terms.
    """
    fit = _fit(kernel, profile, order)
    folded = None
    if single and not fit.width:
        folded = fold(fit.coefficients, _kept(kernel, profile, order), kernel.dim + 2 * order)
    shortest = folded or _trim(fit.coefficients, _SINGLE if single else _DOUBLE)
    return Plan(folded is not None, fit.vanishing, fit.width, shortest)


@lru_cache(maxsize=1024)
def folded_polynomial(kernel: "ZonalKernel", profile: Profile, order: int) -> tuple[float, ...] | None:
    """Monomial coefficients, lowest first, where their float32 Horner sum is as good as float32 allows."""
    fit = _fit(kernel, profile, order)
    if fit.width:
        return None
    series = np.polynomial.chebyshev.chebmul(fit.coefficients, [-1, 1]) if fit.vanishing else fit.coefficients
    return fold(series, _kept(kernel, profile, order), kernel.dim + 2 * order)


def _kept(kernel: "ZonalKernel", profile: Profile, order: int) -> np.ndarray | None:
    return kernel.leading_coefficients(order) if profile == "value" else None


class _Fit(NamedTuple):
    vanishing: bool
    width: float
    coefficients: np.ndarray


@lru_cache(maxsize=512)
def _fit(kernel: "ZonalKernel", profile: Profile, order: int) -> _Fit:
    """Chebyshev coefficients, resolved to rounding, in c or in the stretched cosine, whichever is short.

    An exact logarithm vanishes at c = 1; it is fitted divided by c - 1, and so stays accurate relative to
    itself.
    """
    width = kernel.antipodal_width() if profile == "log" else None
    vanishing = width is not None and order == 0
    fit = None
    if width is None or width > _NARROW:
        fit = _resolve(kernel, profile, order, vanishing, 0.0, _LAST if width is None else _DIRECT)
    if fit is None and width is not None:
        fit = _resolve(kernel, profile, order, vanishing, width, _LAST)
    if fit is None:
        raise ValueError(
            f"{kernel!r} is too sharp to be evaluated: lower its concentration, bandwidth or degree"
        )
    return fit


def _resolve(
    kernel: "ZonalKernel", profile: Profile, order: int, vanishing: bool, width: float, last: int
) -> _Fit | None:
    """Double the points until the last quarter of the coefficients is rounding; None beyond `last`."""
    degree = _FIRST
    while degree <= last:
        angle = (np.arange(degree + 1) + 0.5) * (math.pi / (degree + 1))
        if width:
            x = width * np.sinh(np.cos(angle / 2) * math.asinh(1 / width))
            values = kernel.log_samples(torch.from_numpy(x), order).numpy()
            below = -2 * (1 - x) * (1 + x)
        else:
            c = np.cos(angle)
            values = kernel.samples(torch.from_numpy(c), profile, order).numpy()
            below = c - 1
        a = _cosine_transform(values / below if vanishing else values)
        size = np.abs(a)
        if size[-max(4, degree // 4) :].max() <= 2e-16 * size.sum() * math.sqrt(degree):
            a.setflags(write=False)
            return _Fit(vanishing, width, a)
        degree *= 2
    return None


def _cosine_transform(values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients from values at cos((j + 1/2) pi / n), j = 0..n-1 (a type-II transform)."""
    n = values.size
    spectrum = np.fft.fft(np.concatenate([values, values[::-1]]))[:n]
    a = (spectrum * np.exp(-0.5j * np.pi * np.arange(n) / n)).real / n
    a[0] /= 2
    return a


def _trim(a: np.ndarray, tolerance: float) -> tuple[float, ...]:
    """The series without the tail whose absolute sum is below the tolerance relative to that of all."""
    tail = np.cumsum(np.abs(a[::-1]))[::-1]
    keep = np.nonzero(tail > tolerance * tail[0])[0]
    return tuple(float(v) for v in a[: keep[-1] + 1]) if keep.size else (0.0,)


def stretched(c: Tensor, width: float) -> Tensor:
    """``2 (asinh(x / w) / asinh(1 / w))^2 - 1``, ``x = sqrt((1 + c) / 2)``: opens what is next to c = -1.

    The logarithm of a heat kernel changes its form at distance w from the antipode, and has singularities at
    x = i w and beyond. After this map they stay away from [-1, 1] by a distance that falls only like 1 /
    log(1 / w). Samples are taken at given x, because 2 x^2 - 1 would lose in rounding what the map opens up.
    """
    x = torch.sqrt(((1 + c) / 2).clamp(0, 1))
    return 2 * (torch.asinh(x / width) / math.asinh(1 / width)).square() - 1
