"""Base of the functions that bring their own derivatives: elementwise in their first argument."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

__all__ = ["Elementwise"]


class Elementwise(torch.autograd.Function):
    """An elementwise function of a tensor, with other arguments that are no tensors.

    A subclass gives ``forward(x, *rest)`` and ``backward(ctx, grad)``, where ``ctx.saved_tensors`` is ``(x,)`` and
    ``ctx.rest`` are the others. Forward derivatives and ``torch.func`` transforms work: what a backward pass
    multiplies by is the derivative, and any dimension may be the batch.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, *ctx.rest = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        with _set_fwd_grad_enabled(True):  # torch switches it off here, and a second one around would find 0
            x = unpack_dual(ctx.saved_tensors[0]).primal
            return cls.backward(SimpleNamespace(saved_tensors=(x,), rest=ctx.rest), tangents[0])[0]

    @classmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[Tensor, int | None]:
        return cls.apply(*args), in_dims[0]
