"""Sums and gathers over ranks that autograd sees through.

Convention: every rank returns the *global* value. The gradient of the sum over ranks of those (equal) values is
``world`` times the gradient of one, and DistributedDataParallel divides by ``world``: so a backward pass that
*sums* the incoming gradients over ranks gives exactly the parameter gradient of one process on the whole batch.

A ``group`` is ``None`` (the default process group if one is initialised, else this process alone), a
``ProcessGroup``, or ``False`` (this rank alone, whatever is initialised).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

Group = dist.ProcessGroup | None | Literal[False]


def world_size(group: Group = None) -> int:
    """Number of ranks of ``group``; 1 where nothing is initialised. Asked at each call, never kept."""
    if group is False or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(group)


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group or None)
        return total

    @staticmethod
    def backward(ctx, *grads: Tensor):
        return _AllReduce.apply(grads[0], ctx.group), None


def all_reduce(x: Tensor, group: Group = None) -> Tensor:
    r"""Sum ``x`` over the ranks: :math:`y = \sum_r x_r`, with :math:`\bar x_r = \sum_{r'} \bar y_{r'}`.

    Shape:
        any, the same on every rank. One rank: ``x`` itself. Differentiable any number of times.
    """
    return _AllReduce.apply(x, group) if world_size(group) > 1 else x


_equal: ContextVar[bool] = ContextVar("equal", default=False)


@contextmanager
def equal_rows() -> Iterator[None]:
    """Within the block every rank holds as many rows as this one, as the caller promises: no rank asks the others."""
    before = _equal.set(True)
    try:
        yield
    finally:
        _equal.reset(before)


def rows_are_equal() -> bool:
    """Whether :func:`equal_rows` is promised here."""
    return _equal.get()


def row_counts(rows: int, device: torch.device, group: Group = None) -> list[int]:
    """Number of rows that each rank holds (one exchange of a single integer; none on one rank or of equal rows)."""
    if group is False or not (dist.is_available() and dist.is_initialized()):
        return [rows]  # nobody is asked: this runs in every step
    world = world_size(group)
    if rows_are_equal():
        return [rows] * world
    counts = torch.zeros(world, dtype=torch.int64, device=device)
    counts[dist.get_rank(group or None)] = rows
    dist.all_reduce(counts, group=group or None)
    return counts.tolist()


def first_row(counts: list[int], group: Group = None) -> int:
    """Position of this rank's first row among the rows of all ranks."""
    rank = dist.get_rank(group or None) if len(counts) > 1 else 0
    return sum(counts[:rank])


def gather_rows(x: Tensor, counts: list[int], group: Group = None) -> Tensor:
    """Concatenate the ranks' ``x`` along dimension -2, in rank order, without gradient.

    Shape:
        ``(*views, n_r, d)`` on rank ``r``, with ``counts[r] = n_r`` (zero is allowed) -> ``(*views, n, d)``. The
        Gram reductions carry the gradient themselves; see :func:`isosphere.reductions.pair_mean`.
    """
    if len(counts) == 1:
        return x.detach()
    most = max(counts)
    padded = torch.nn.functional.pad(x.detach(), (0, 0, 0, most - x.shape[-2])).contiguous()
    blocks = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(blocks, padded, group=group or None)
    return torch.cat([block[..., :count, :] for block, count in zip(blocks, counts, strict=True)], dim=-2)


def rows_of_all(x: Tensor, counts: list[int], group: Group = None) -> Tensor:
    """Concatenate the ranks' ``x`` along dimension -2, in rank order, with the gradient of this rank's rows.

    For a statistic that every rank computes of all rows: that gradient comes times the number of ranks, as
    :func:`all_reduce` passes it on, so that averaged over ranks it is that of one process.

    Shape:
        as :func:`gather_rows`.
    """
    if len(counts) == 1:
        return x
    everyone, start = gather_rows(x, counts, group), first_row(counts, group)
    own = x.detach() + len(counts) * (x - x.detach())
    before, after = everyone[..., :start, :], everyone[..., start + x.shape[-2] :, :]
    return torch.cat([before, own, after], dim=-2)
