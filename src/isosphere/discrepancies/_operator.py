"""A discrepancy as one operator of a compiled graph.

Blocks, directions and collectives are no business of ``torch.compile``: traced, they would break the graph or
unroll into hundreds of copies. A compiled step sees one operator ``isosphere::discrepancy`` with a known shape and
gradient, and runs inside it what an eager step runs.
"""

__all__ = ["Registered", "as_operator"]

import itertools
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from isosphere.reductions import Group, all_reduce, world_size

_HANDLES = itertools.count()
_REGISTERED: "WeakValueDictionary[int, Registered]" = WeakValueDictionary()
_AUTOGRAD = torch._C.DispatchKey.AutogradFunctionality


class Registered(nn.Module):
    """A module that an operator can find again by a number of its own; copies get numbers of their own."""

    group: Group

    def __init__(self) -> None:
        super().__init__()
        self._register()

    def __setstate__(self, state: dict) -> None:  # what copying and unpickling call
        super().__setstate__(state)
        self._register()

    def _register(self) -> None:
        self._handle = next(_HANDLES)
        _REGISTERED[self._handle] = self

    def forward(self, z: Tensor) -> Tensor:
        """``(*views, n, d)`` to ``(*views,)``, differentiable."""
        raise NotImplementedError


@torch.library.custom_op("isosphere::discrepancy", mutates_args=(), tags=(torch._C.Tag.cudagraph_unsafe,))
def _discrepancy(z: Tensor, handle: int) -> tuple[Tensor, Tensor]:
    """Value, and gradient of the sum over views."""
    module = _REGISTERED[handle]
    # An operator runs below autograd: what differentiates itself must switch it on again.
    with torch._C._SetExcludeDispatchKeyGuard(_AUTOGRAD, False), torch.enable_grad():
        rows = z.detach().requires_grad_()
        value = module.forward(rows)
        (gradient,) = torch.autograd.grad(value.sum(), rows)
    return value.detach(), gradient / world_size(module.group)


@_discrepancy.register_fake
def _(z: Tensor, handle: int) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape[:-2]), torch.empty_like(z, memory_format=torch.contiguous_format)


@torch.library.custom_op("isosphere::sum_over_ranks", mutates_args=())
def _sum_over_ranks(x: Tensor, handle: int) -> Tensor:
    return all_reduce(x, _REGISTERED[handle].group).clone()


@_sum_over_ranks.register_fake
def _(x: Tensor, handle: int) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.handle = inputs[1]


def _backward(ctx, upstream: Tensor, _: Tensor) -> tuple[Tensor, None]:
    (gradient,) = ctx.saved_tensors
    return _sum_over_ranks(upstream, ctx.handle)[..., None, None] * gradient, None


_discrepancy.register_autograd(_backward, setup_context=_keep)


def as_operator(module: Registered, z: Tensor) -> Tensor:
    """``module(z)`` as one operator; ``z`` is float32 or float64. Its gradient cannot be differentiated."""
    return _discrepancy(z, module._handle)[0]
