"""Values of a kernel's profiles: fitted sums, in passes that stay in cache, with derivatives of their own.

Every derivative of a profile is a sum of its own (:mod:`isosphere.kernels._fitting`), so autograd needs c
alone and keeps no intermediate of the sum.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isosphere.kernels._constants import constant_when_compiled
from isosphere.kernels._fitting import Plan, Profile, plan, stretched
from isosphere.kernels._folding import horner
from isosphere.sphere import Elementwise

if TYPE_CHECKING:
    from isosphere.kernels._zonal import ZonalKernel

__all__ = ["as_cosines", "evaluate"]

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


class _Evaluate(Elementwise):
    @staticmethod
    def forward(c: Tensor, kernel: "ZonalKernel", profile: Profile, order: int) -> Tensor:
        single = c.dtype == torch.float32
        if torch.compiler.is_compiling() or type(c) is not Tensor:
            # Plain numbers: a compiler bakes them into one fused loop, and tensor subclasses need no copies.
            return _sum(c, _constant_plan(kernel, profile, order, single))
        how = plan(kernel, profile, order, single)
        return _in_chunks(c, how, _coefficients(kernel, profile, order, c.dtype, c.device))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (c,), (kernel, profile, order) = ctx.saved_tensors, ctx.rest
        return grads[0] * _Evaluate.apply(c, kernel, profile, order + 1), None, None, None


# The compiler must run this, not look into it: a fit is data-dependent Python.
@constant_when_compiled
def _constant_plan(kernel: "ZonalKernel", profile: Profile, order: int, single: bool) -> Plan:
    return plan(kernel, profile, order, single)


def _sum(c: Tensor, how: Plan) -> Tensor:
    """The sum in plain operations."""
    a = how.coefficients
    x = stretched(c, how.width) if how.width else c
    if how.monomial:
        total = horner(x, a)
    else:
        after, total = torch.zeros_like(x), torch.full_like(x, a[-1])
        for k in range(len(a) - 2, -1, -1):
            after, total = total, (2 if k else 1) * x * total + (a[k] - after)
    return total * (c - 1) if how.vanishing else total


@lru_cache(maxsize=1024)
def _coefficients(
    kernel: "ZonalKernel", profile: Profile, order: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """The plan's numbers as tensors of a dtype on a device: a fused multiply-add takes only tensors."""
    numbers = plan(kernel, profile, order, dtype == torch.float32).coefficients
    with torch.inference_mode(False):
        return tuple(torch.tensor(numbers, dtype=torch.float64, device="cpu").to(dtype).to(device).unbind())


def _in_chunks(c: Tensor, how: Plan, a: tuple[Tensor, ...]) -> Tensor:
    size = _CHUNK * torch.get_num_threads()
    if c.device.type != "cpu" or c.numel() <= size:
        return _sum_in_place(c, how, a)
    flat = c.contiguous().view(-1)
    out = torch.empty_like(flat)
    for x, y in zip(flat.split(size), out.split(size), strict=True):
        y.copy_(_sum_in_place(x, how, a))
    return out.view(c.shape)


def _sum_in_place(c: Tensor, how: Plan, a: tuple[Tensor, ...]) -> Tensor:
    """The sum with one fused operation a term (monomials) or two (Chebyshev), and three buffers."""
    x = stretched(c, how.width) if how.width else c
    if len(a) == 1:
        total = torch.full_like(x, how.coefficients[0])
    elif how.monomial:
        total = torch.addcmul(a[-2], x, a[-1])
        for k in range(len(a) - 3, -1, -1):
            torch.addcmul(a[k], total, x, out=total)
    else:
        twice = 2 * x
        after, total = torch.zeros_like(x), torch.full_like(x, how.coefficients[-1])
        for k in range(len(a) - 2, -1, -1):
            # b_k = a_k + 2 x b_{k+1} - b_{k+2} (x alone in the last step), written over the buffer of b_{k+2}
            torch.sub(a[k], after, out=after)
            torch.addcmul(after, twice if k else x, total, out=after)
            after, total = total, after
    return total.mul_(c - 1) if how.vanishing else total
