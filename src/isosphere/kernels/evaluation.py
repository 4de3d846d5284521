"""Fast evaluation of a smooth function of the cosine: one Chebyshev fit in float64, then the shortest stable sum.

A *profile* is anything hashable with ``samples(c, order)``: float64 values of its order-th derivative at float64 points.
It is sampled once at Chebyshev points; evaluation in float32 uses Horner's rule where that is as accurate as float32
allows, else Clenshaw's recurrence. Derivatives are profiles of their own, so autograd keeps no intermediate.
"""

import math
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["Profile", "chebyshev_coefficients", "evaluate", "folded_polynomial"]

_FIRST, _LAST = 16, 1 << 15  # degrees of the first and of the longest fit that is tried
_FOLD_DEGREE = 24  # a longer Horner sum is slower than Clenshaw's is inaccurate
_FOLD_TOLERANCE = 1e-7
_CHUNK = 1 << 15  # elements per pass: three float32 buffers of this size stay in a core's cache


class Profile(Protocol):
    """A smooth function of c in [-1, 1], known by exact values of its derivatives."""

    def __hash__(self) -> int: ...

    def samples(self, c: Tensor, order: int) -> Tensor:
        """Values of the order-th derivative at float64 points."""
        ...


def evaluate(c: Tensor, profile: Profile, order: int = 0) -> Tensor:
    """Value of the order-th derivative of a profile at c, elementwise and differentiable.

    Raises:
        TypeError: c is not floating point.
    """
    if not c.is_floating_point():
        raise TypeError(f"c must be a floating-point tensor of cosines, got {c.dtype}: use c.float()")
    if c.dtype in (torch.float16, torch.bfloat16):
        c = c.float()
    return _Evaluate.apply(c, profile, order)


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, profile: Profile, order: int) -> Tensor:
        ctx.save_for_backward(c)
        ctx.profile, ctx.order = profile, order
        return _sum(c, profile, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (c,) = ctx.saved_tensors
        return grads[0] * _Evaluate.apply(c, ctx.profile, ctx.order + 1), None, None


def _sum(c: Tensor, profile: Profile, order: int) -> Tensor:
    single = c.dtype == torch.float32
    folded = folded_polynomial(profile, order) if single else None
    series = None if folded is not None else _trimmed(profile, order, 3e-9 if single else 1e-17)
    if c.device.type != "cpu" or c.numel() <= _CHUNK or not c.is_contiguous():
        return _horner(c, folded) if folded is not None else _clenshaw(c, series or (0.0,))
    out = torch.empty_like(c)
    for x, y in zip(c.view(-1).split(_CHUNK), out.view(-1).split(_CHUNK), strict=True):
        y.copy_(_horner(x, folded) if folded is not None else _clenshaw(x, series or (0.0,)))
    return out


def _horner(x: Tensor, a: tuple[float, ...]) -> Tensor:
    if len(a) == 1:
        return torch.full_like(x, a[0])
    y = torch.mul(x, a[-1]).add_(a[-2])
    for k in range(len(a) - 3, -1, -1):
        y.mul_(x).add_(a[k])
    return y


def _clenshaw(x: Tensor, a: tuple[float, ...]) -> Tensor:
    if len(a) == 1:
        return torch.full_like(x, a[0])
    after, now = torch.zeros_like(x), torch.full_like(x, a[-1])
    for k in range(len(a) - 2, 0, -1):
        # after <- 2 x now - after + a_k, reusing the buffer that is no longer needed
        after, now = now, torch.addcmul(after.neg_().add_(a[k]), x, now, value=2, out=after)
    return torch.addcmul(after.neg_().add_(a[0]), x, now, out=after)


def chebyshev_coefficients(profile: Profile, order: int) -> np.ndarray:
    """Coefficients of ``sum_k a_k T_k(c)`` of the order-th derivative, float64, resolved to rounding.

    The number of points doubles until the last quarter of the coefficients has fallen to rounding.

    Raises:
        ValueError: the function is too sharp for 32,768 points.
    """
    return _fit(profile, order)


@lru_cache(maxsize=512)
def _fit(profile: Profile, order: int) -> np.ndarray:
    degree = _FIRST
    while degree <= _LAST:
        angle = (np.arange(degree + 1) + 0.5) * (math.pi / (degree + 1))
        values = profile.samples(torch.from_numpy(np.cos(angle)), order).numpy()
        a = _cosine_transform(values)
        size = np.abs(a)
        tail = size[-max(4, degree // 4) :].max()
        if tail <= 2e-16 * max(size.max(), np.abs(values).max()) * math.sqrt(degree):
            keep = np.nonzero(size > 1e-17 * size.max())[0]
            a = a[: keep[-1] + 1] if keep.size else a[:1]
            a.setflags(write=False)
            return a
        degree *= 2
    raise ValueError(f"{profile!r} is too sharp to be evaluated: lower its concentration or raise its time")


def _cosine_transform(values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients from values at the points cos((j + 1/2) pi / n), j = 0..n-1 (a type-II transform)."""
    n = values.size
    spectrum = np.fft.fft(np.concatenate([values, values[::-1]]))[:n]
    a = (spectrum * np.exp(-0.5j * np.pi * np.arange(n) / n)).real / n
    a[0] /= 2
    return a


@lru_cache(maxsize=1024)
def _trimmed(profile: Profile, order: int, tolerance: float) -> tuple[float, ...]:
    """The fit without the tail whose absolute sum is below the tolerance relative to the largest value."""
    a = _fit(profile, order)
    bound = tolerance * np.abs(a).sum()
    tail = np.cumsum(np.abs(a[::-1]))[::-1]
    keep = np.nonzero(tail > bound)[0]
    return tuple(float(v) for v in a[: keep[-1] + 1]) if keep.size else (0.0,)


@lru_cache(maxsize=1024)
def folded_polynomial(profile: Profile, order: int) -> tuple[float, ...] | None:
    """Monomial coefficients, lowest first, accurate in a float32 Horner sum to 1e-7 of the largest value; else None."""
    a = _fit(profile, order)
    for tolerance in (2e-8, 1e-9):
        short = _trimmed(profile, order, tolerance)
        if len(short) > _FOLD_DEGREE + 1:
            continue
        monomials = np.polynomial.chebyshev.cheb2poly(np.asarray(short))
        x = torch.cos(torch.linspace(0, math.pi, 4001, dtype=torch.float64)).float()
        exact = np.polynomial.chebyshev.chebval(x.double().numpy(), a)
        folded = tuple(float(v) for v in monomials)
        error = np.abs(_horner(x, folded).double().numpy() - exact).max()
        if error <= _FOLD_TOLERANCE * np.abs(exact).max():
            return folded
    return None
