"""Fast values of a smooth function of the cosine: one Chebyshev fit in float64, then the shortest stable sum.

A kernel offers *profiles*, named by a word: its value, its logarithm, the square root of a squared
polynomial. It can sample every derivative of them exactly but slowly (``kernel.samples``). Here the samples
are taken once, at Chebyshev points; float32 is then served by Horner's rule where that loses nothing,
everything else by Clenshaw's recurrence. Every derivative is a profile of its own, so autograd keeps no
intermediate of the sum.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isosphere.kernels.folding import fold, horner

if TYPE_CHECKING:
    from isosphere.kernels.zonal import ZonalKernel

__all__ = ["Profile", "evaluate", "folded_polynomial"]

Profile = Literal["value", "log", "root"]

_FIRST, _LAST = 16, 1 << 14  # degrees of the first and of the longest fit
_DIRECT = 64  # a logarithm that needs more than this degree in c is fitted in the stretched variable instead
_SINGLE, _DOUBLE = 1e-9, 4e-16  # tail of a trimmed series, relative to the sum of its coefficients
_CHUNK = 1 << 15  # elements per thread and pass: the three buffers stay in a core's cache


def evaluate(c: Tensor, kernel: "ZonalKernel", profile: Profile, order: int = 0) -> Tensor:
    """The order-th derivative of a kernel's profile at c, elementwise, differentiable to any order.

    Raises:
        TypeError: c is not floating point.
    """
    return _Evaluate.apply(as_cosines(c), kernel, profile, order)


def as_cosines(c: Tensor) -> Tensor:
    """c in float32 at least; refuses integers."""
    if not c.is_floating_point():
        raise TypeError(f"c must be a floating-point tensor of cosines, got {c.dtype}: use c.float()")
    return c.float() if c.dtype in (torch.float16, torch.bfloat16) else c


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, kernel: "ZonalKernel", profile: Profile, order: int) -> Tensor:
        ctx.save_for_backward(c)
        ctx.kernel, ctx.profile, ctx.order = kernel, profile, order
        single = c.dtype == torch.float32
        if torch.compiler.is_compiling() or type(c) is not Tensor:
            # Plain numbers: the compiler bakes them into one fused loop, and tensor subclasses need no
            # copies.
            plan = _constant_plan(kernel, profile, order, single)
            x = _stretch(c, plan.stretch) if plan.stretch else c
            return horner(x, plan.coefficients) if plan.monomial else _clenshaw(x, plan.coefficients)
        plan = _plan(kernel, profile, order, single)
        return _in_chunks(c, plan, _coefficients(kernel, profile, order, c.dtype, c.device))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (c,) = ctx.saved_tensors
        return grads[0] * _Evaluate.apply(c, ctx.kernel, ctx.profile, ctx.order + 1), None, None, None


# -- the sum
# --------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """How a profile is summed: coefficients of monomials or Chebyshev polynomials, in c or a stretched c."""

    monomial: bool
    stretch: float
    coefficients: tuple[float, ...]


@lru_cache(maxsize=1024)
def _plan(kernel: "ZonalKernel", profile: Profile, order: int, single: bool) -> Plan:
    folded = folded_polynomial(kernel, profile, order) if single else None
    if folded is not None:
        return Plan(True, 0.0, folded)
    fit = _fit(kernel, profile, order)
    return Plan(False, fit.stretch, _trim(fit.coefficients, _SINGLE if single else _DOUBLE))


# The compiler must run this, not look into it: the fit is data-dependent Python.
@torch.compiler.assume_constant_result
def _constant_plan(kernel: "ZonalKernel", profile: Profile, order: int, single: bool) -> Plan:
    return _plan(kernel, profile, order, single)


@lru_cache(maxsize=1024)
def _coefficients(
    kernel: "ZonalKernel", profile: Profile, order: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """The plan's numbers as tensors of a dtype on a device: a fused multiply-add takes only tensors."""
    plan = _plan(kernel, profile, order, dtype == torch.float32)
    with torch.inference_mode(False):
        values = torch.tensor(plan.coefficients, dtype=torch.float64, device="cpu").to(dtype).to(device)
        return tuple(values.unbind())


def _in_chunks(c: Tensor, plan: Plan, a: tuple[Tensor, ...]) -> Tensor:
    size = _CHUNK * torch.get_num_threads()
    if c.device.type != "cpu" or c.numel() <= size:
        return _series(c, plan, a)
    flat = c.contiguous().view(-1)
    out = torch.empty_like(flat)
    for x, y in zip(flat.split(size), out.split(size), strict=True):
        y.copy_(_series(x, plan, a))
    return out.view(c.shape)


def _series(x: Tensor, plan: Plan, a: tuple[Tensor, ...]) -> Tensor:
    x = _stretch(x, plan.stretch) if plan.stretch else x
    if len(a) == 1:
        return torch.full_like(x, plan.coefficients[0])
    if plan.monomial:
        y = torch.addcmul(a[-2], x, a[-1])
        for k in range(len(a) - 3, -1, -1):
            torch.addcmul(a[k], y, x, out=y)
        return y
    twice = 2 * x
    after, now = torch.zeros_like(x), torch.full_like(x, plan.coefficients[-1])
    for k in range(len(a) - 2, 0, -1):
        # b_k = a_k + 2 x b_{k+1} - b_{k+2}, written over the buffer of b_{k+2}
        torch.sub(a[k], after, out=after)
        torch.addcmul(after, twice, now, out=after)
        after, now = now, after
    torch.sub(a[0], after, out=after)
    return torch.addcmul(after, x, now, out=after)


def _clenshaw(x: Tensor, a: tuple[float, ...]) -> Tensor:
    after, now = torch.zeros_like(x), torch.full_like(x, a[-1])
    if len(a) == 1:
        return now
    for k in range(len(a) - 2, 0, -1):
        after, now = now, 2 * x * now + (a[k] - after)
    return x * now + (a[0] - after)


# -- the fit
# --------------------------------------------------------------------------------------------------------


class _Fit(NamedTuple):
    stretch: float
    coefficients: np.ndarray


@lru_cache(maxsize=512)
def _fit(kernel: "ZonalKernel", profile: Profile, order: int) -> _Fit:
    """Chebyshev coefficients, resolved to rounding, in c or in the stretched variable, whichever is short."""
    width = kernel.antipodal_width() if profile == "log" else None
    direct = _resolve(kernel, profile, order, 0.0, _DIRECT if width else _LAST)
    if direct is None and width:
        direct = _resolve(kernel, profile, order, width, _LAST)
    if direct is None:
        raise ValueError(
            f"{kernel!r} is too sharp to be evaluated: lower its concentration, bandwidth or degree"
        )
    return direct


def _resolve(kernel: "ZonalKernel", profile: Profile, order: int, stretch: float, last: int) -> _Fit | None:
    """Double the points until the last quarter of the coefficients is rounding; None beyond `last`."""
    degree = _FIRST
    while degree <= last:
        angle = (np.arange(degree + 1) + 0.5) * (math.pi / (degree + 1))
        if stretch:
            x = stretch * np.sinh(np.cos(angle / 2) * math.asinh(1 / stretch))
            values = kernel.log_samples(torch.from_numpy(x), order).numpy()
        else:
            values = kernel.samples(torch.from_numpy(np.cos(angle)), profile, order).numpy()
        a = _cosine_transform(values)
        tail = np.abs(a[-max(4, degree // 4) :]).max()
        if tail <= 2e-16 * np.abs(values).max() * math.sqrt(degree):
            a.setflags(write=False)
            return _Fit(stretch, a)
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
    size = np.abs(a)
    tail = np.cumsum(size[::-1])[::-1]
    keep = np.nonzero(tail > tolerance * tail[0])[0]
    return tuple(float(v) for v in a[: keep[-1] + 1]) if keep.size else (0.0,)


def _stretch(c: Tensor, width: float) -> Tensor:
    """v = 2 (asinh(x / w) / asinh(1 / w))^2 - 1, x = sqrt((1 + c) / 2): opens the neighbourhood of c = -1.

    The logarithm of a heat kernel changes its form at distance w from the antipode, and has singularities at
    x = +-i w and beyond: after this map they stay away from [-1, 1] by a distance that falls only like 1 /
    log(1 / w). Samples are taken at given x, because 2 x^2 - 1 would lose in rounding what the map opens up.
    """
    x = torch.sqrt(((1 + c) / 2).clamp(0, 1))
    return 2 * (torch.asinh(x / width) / math.asinh(1 / width)).square() - 1


@lru_cache(maxsize=1024)
def folded_polynomial(kernel: "ZonalKernel", profile: Profile, order: int) -> tuple[float, ...] | None:
    """Monomial coefficients, lowest first, where their float32 Horner sum is as good as float32 allows."""
    fit = _fit(kernel, profile, order)
    if fit.stretch:
        return None
    kept = kernel.leading_coefficients(order) if profile == "value" else None
    return fold(fit.coefficients, kept, kernel.dim + 2 * order)
