"""Statistics that make their gradient together with their value, and differentiate like any other function.

A statistic over blocks computes value and gradient without a graph. What PyTorch asks of a differentiable function is
the same for all of them, and stands here once: the first derivative is the gradient that was made, forward as well as
backward, under ``torch.func`` as well as plain autograd; further derivatives are those of the same formula in plain
operations, of O(n^2) memory, on one rank. Forward and backward may be nested in any order.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isosphere.reductions._collective import Group, all_reduce, world_size
from isosphere.reductions._precision import full_precision

__all__ = ["fused"]

Compute = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]
Plain = Callable[[Tensor], Tensor]

_transformed = torch._C._are_functorch_transforms_active
_unpack_dual = torch.autograd.forward_ad.unpack_dual
_forward_again = torch.autograd.forward_ad._set_fwd_grad_enabled
"""In a ``jvp`` torch switches forward derivatives off: one around it would find 0."""


def fused(z: Tensor, compute: Compute, plain: Plain, group: Group) -> Tensor:
    """The values that ``compute`` makes, one a view, differentiable.

    Args:
        z: this rank's rows, shape ``(*views, n, d)``.
        compute: takes samples ``(views, n, d)`` and whether a gradient is wanted; returns the values ``(views,)`` of
            all ranks' rows, and the gradient of each with respect to this rank's rows, or None.
        plain: the same values of rows on one rank, in differentiable operations.
        group: whose rows they are.
    """
    if _transformed() or _unpack_dual(z).tangent is not None:
        return _Transformed.apply(z, compute, plain, group)[0]
    return _Fused.apply(z, compute, plain, group)


class _Fused(torch.autograd.Function):
    """For plain autograd: ten microseconds a call less than :class:`_Transformed`, and no gradient unasked."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, compute: Compute, plain: Plain, group: Group) -> Tensor:
        samples = z.detach().reshape(
            math.prod(z.shape[:-2]), *z.shape[-2:]
        )  # also where this rank has no rows
        with full_precision(z.device):
            value, gradient = compute(samples, ctx.needs_input_grad[0])
        ctx.save_for_backward(z, None if gradient is None else gradient.reshape(z.shape))
        ctx.rest = plain, group
        return value.reshape(z.shape[:-2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (z, gradient), (plain, group) = ctx.saved_tensors, ctx.rest
        upstream = all_reduce(grads[0], group)
        if torch.is_grad_enabled():
            return _Pulled.apply(z, gradient, upstream, plain, group), None, None, None
        return upstream[..., None, None] * gradient, None, None, None


class _Transformed(torch.autograd.Function):
    """For ``torch.func`` and forward derivatives: value and gradient are both outputs."""

    @staticmethod
    def forward(z: Tensor, compute: Compute, plain: Plain, group: Group) -> tuple[Tensor, Tensor]:
        samples = z.detach().reshape(math.prod(z.shape[:-2]), *z.shape[-2:])
        with full_precision(z.device):
            value, gradient = compute(samples, True)
        assert gradient is not None
        return value.reshape(z.shape[:-2]), gradient.reshape(z.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        z, _, *ctx.rest = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(z, output[1])
        ctx.save_for_forward(z, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (z, gradient), (plain, group) = ctx.saved_tensors, ctx.rest
        return _Pulled.apply(z, gradient, all_reduce(grads[0], group), plain, group), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, None]:
        with _forward_again(True):
            (z, gradient), (plain, group) = _primals(ctx), ctx.rest
            along = _as_function(z, gradient, plain, group) * tangents[0]
            return all_reduce(along.sum((-2, -1)), group), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        z, *rest = args
        return _Transformed.apply(z.movedim(in_dims[0] or 0, 0), *rest), (0, 0)  # more views


class _Pulled(torch.autograd.Function):
    """``upstream * gradient``, the gradient being a function of z whose derivative is that of plain operations."""

    @staticmethod
    def forward(z: Tensor, gradient: Tensor, upstream: Tensor, plain: Plain, group: Group) -> Tensor:
        pulled = upstream[..., None, None] * gradient
        return pulled.clone() if pulled._is_zerotensor() else pulled  # such a one takes no tangent

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.plain, ctx.group = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        z, gradient, upstream = ctx.saved_tensors
        second = _hessian_product(ctx.plain, z, upstream[..., None, None] * grads[0], ctx.group)
        along = _as_function(z, gradient, ctx.plain, ctx.group) * grads[0]
        return second, None, along.sum((-2, -1)), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        moved, _, scaled = tangents[:3]
        with _forward_again(True):
            z, gradient, upstream = _primals(ctx)
            total = torch.zeros_like(gradient)
            if scaled is not None:
                total = _Pulled.apply(z, gradient, scaled, ctx.plain, ctx.group)
            if moved is not None:
                total = total + upstream[..., None, None] * _hessian_product(ctx.plain, z, moved, ctx.group)
            return total

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        tensors = (
            x.expand(info.batch_size, *x.shape) if at is None else x.movedim(at, 0)
            for x, at in zip(args[:3], in_dims, strict=False)
        )
        return _Pulled.apply(*tensors, *args[3:]), 0  # more views


def _as_function(z: Tensor, gradient: Tensor, plain: Plain, group: Group) -> Tensor:
    """``gradient``, with the derivatives that it has as a function of z."""
    return _Pulled.apply(z, gradient, z.new_ones(z.shape[:-2]), plain, group)


def _primals(ctx: Any) -> list[Tensor]:
    """What was saved, without the tangents of the level that ``jvp`` computes."""
    return [_unpack_dual(x).primal for x in ctx.saved_tensors]


def _hessian_product(plain: Plain, z: Tensor, v: Tensor, group: Group) -> Tensor:
    """Second derivatives of each view's value along v."""
    if world_size(group) > 1:
        raise RuntimeError(
            "second derivatives of a statistic are for one rank: got create_graph=True under an initialised process "
            "group; pass group=False to the discrepancy"
        )
    with full_precision(z.device):
        return torch.func.vjp(torch.func.grad(lambda x: plain(x).sum()), z)[1](v)[0]
