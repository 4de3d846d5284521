r"""Sums over all pairs of rows, in blocks: the only code that forms inner products of a sample with itself.

For rows :math:`x_i` and an elementwise function :math:`f` of :math:`c_{ij} = \langle x_i, x_j \rangle`,

.. math:: P = \sum_{i,j} f(c_{ij}), \qquad
          \frac{\partial P}{\partial x_i} = 2 \sum_j f'(c_{ij})\, x_j,

.. math:: Q = \sum_i \log \sum_{j} e^{g(c_{ij})}, \qquad
          \frac{\partial Q}{\partial x_i} = \sum_j (\pi_{ij} + \pi_{ji})\, g'(c_{ij})\, x_j, \quad
          \pi_{ij} = e^{g(c_{ij}) - q_i},

because :math:`f` and :math:`g` are functions of a symmetric matrix. Both derivatives need one rank's rows against
all rows and nothing else: no :math:`n \times n` tensor is formed, kept for backward, or sent between ranks. Where one
rank holds all rows, the pair sum visits each unordered pair once.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from isosphere.reductions._collective import Group, all_reduce, first_row, gather_rows, row_counts, world_size
from isosphere.reductions._precision import in_full_precision, widest

Elementwise = Callable[[Tensor], Tensor]

# Elements of one block of the Gram matrix: 2 MiB of float32 stays in a CPU's second-level cache, and a GPU
# wants fewer, larger launches.
_BLOCK = {"cpu": 1 << 19}
_LARGE_BLOCK = 1 << 26
# Rows of a block where the symmetric half is left out: few enough that little of it is visited after all.
_ROWS = {"cpu": 128}
_LARGE_ROWS = 4096


class _Block(NamedTuple):
    """A block of the Gram matrix: ``x[rows]`` against ``columns``.

    Where one rank holds all rows it starts at its own diagonal, and what lies in the columns ``twice``, right of
    its square, stands for the mirrored pairs too. ``selves`` are the positions of the pairs i = i.
    """

    rows: slice
    columns: Tensor
    twice: slice
    selves: tuple[Tensor, Tensor]


def _blocks(x: Tensor, everyone: Tensor, offset: int, alone: bool) -> Iterator[_Block]:
    """Cover all pairs of this rank's rows with everyone's, of which they are those from ``offset`` on."""
    step = max(1, _BLOCK.get(x.device.type, _LARGE_BLOCK) // max(everyone.shape[0], 1))
    if alone:
        step = min(step, _ROWS.get(x.device.type, _LARGE_ROWS))
    for start in range(0, x.shape[0], step):
        rows = slice(start, min(start + step, x.shape[0]))
        count = rows.stop - start
        own = torch.arange(count, device=x.device)
        if alone:
            yield _Block(rows, everyone[start:], slice(count, None), (own, own))
        else:
            yield _Block(rows, everyone, slice(0, 0), (own, own + start + offset))


def _sum64(x: Tensor) -> Tensor:
    """Sum of a block: pairwise in its own type, then carried in float64 where the device has it."""
    return widest(x.sum())


def _add_products(
    gradient: Tensor, slopes: Tensor, x: Tensor, rows: slice, columns: Tensor, twice: slice
) -> None:
    """``gradient += slopes @ columns`` for a block of a symmetric matrix of slopes, its mirrored part included."""
    gradient[rows].addmm_(slopes, columns)
    if slopes[:, twice].numel():
        gradient[rows.stop :].addmm_(slopes[:, twice].mT, x[rows])


def _dense_gradient(x: Tensor, derivative: Elementwise) -> Tensor:
    """The gradient of the pair sum as plain differentiable operations (used for second derivatives only)."""
    return 2 * derivative(x @ x.mT) @ x


class _PairSum(torch.autograd.Function):
    """One sample: x (n_r, d) on this rank -> sum over all pairs of all ranks. The gradient is made in the same pass."""

    @staticmethod
    @in_full_precision
    def forward(ctx, x: Tensor, function: Elementwise, derivative: Elementwise, diagonal: bool, group: Group):
        counts = row_counts(x.shape[0], x.device, group)
        everyone = gather_rows(x, counts, group)
        offset, alone = first_row(counts, group), len(counts) == 1
        gradient = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        total = widest(x.new_zeros(()))
        for rows, columns, twice, selves in _blocks(x, everyone, offset, alone):
            c = x[rows] @ columns.mT
            values = function(c)
            if not diagonal:
                values[selves] = 0
            total += _sum64(values) + _sum64(values[:, twice])
            if gradient is not None:
                slopes = derivative(c)
                if not diagonal:
                    slopes[selves] = 0
                _add_products(gradient, slopes, x, rows, columns, twice)
        ctx.save_for_backward(x, gradient)
        ctx.derivative, ctx.diagonal, ctx.group = derivative, diagonal, group
        return all_reduce(total, group).to(x.dtype)

    @staticmethod
    @in_full_precision
    def backward(ctx, *grads: Tensor):
        x, gradient = ctx.saved_tensors
        upstream = all_reduce(grads[0], ctx.group)
        if torch.is_grad_enabled():  # somebody wants a second derivative: dense, one rank
            if world_size(ctx.group) > 1:
                raise RuntimeError(
                    "second derivatives of a pair sum are for one rank: got create_graph=True under an initialised "
                    "process group; pass group=False to the discrepancy"
                )
            full = _dense_gradient(x, ctx.derivative)
            if not ctx.diagonal:
                full = full - 2 * ctx.derivative((x * x).sum(-1, keepdim=True)) * x
            return upstream * full, None, None, None, None
        return 2 * upstream * gradient, None, None, None, None


class _PairLogSum(torch.autograd.Function):
    """One sample: x (n_r, d) on this rank -> sum over rows of all ranks of (log-sum-exp over columns - centre)."""

    @staticmethod
    @in_full_precision
    def forward(ctx, x: Tensor, log_function: Elementwise, diagonal: bool, centre: float, group: Group):
        counts = row_counts(x.shape[0], x.device, group)
        everyone = gather_rows(x, counts, group)
        offset, alone = first_row(counts, group), len(counts) == 1
        row_logs = x.new_full((x.shape[0],), -torch.inf)
        for rows, columns, twice, selves in _blocks(x, everyone, offset, alone):
            logs = log_function(x[rows] @ columns.mT)
            if not diagonal:
                logs[selves] = -torch.inf
            row_logs[rows] = torch.logaddexp(row_logs[rows], logs.logsumexp(1))
            if logs[:, twice].numel():
                row_logs[rows.stop :] = torch.logaddexp(row_logs[rows.stop :], logs[:, twice].logsumexp(0))
        ctx.save_for_backward(x, everyone, row_logs, gather_rows(row_logs[:, None], counts, group)[:, 0])
        ctx.log_function, ctx.diagonal, ctx.group = log_function, diagonal, group
        ctx.offset, ctx.alone = offset, alone
        wide = widest(row_logs)
        return all_reduce((wide - centre).sum(), group).to(x.dtype)

    @staticmethod
    @in_full_precision
    def backward(ctx, *grads: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "second derivatives of a pair log-sum are not supported: got create_graph=True; for small n write "
                "logsumexp(kernel.log(z @ z.mT)) in plain PyTorch"
            )
        x, everyone, row_logs, all_logs = ctx.saved_tensors
        gradient = torch.zeros_like(x)
        for rows, columns, twice, selves in _blocks(x, everyone, ctx.offset, ctx.alone):
            with torch.enable_grad():
                c = (x[rows] @ columns.mT).requires_grad_()
                logs = ctx.log_function(c)
            value = logs.detach()
            weights = torch.exp(value - row_logs[rows, None])
            weights += (value - all_logs[len(all_logs) - len(columns) :]).exp_()
            if not ctx.diagonal:
                weights[selves] = 0
            (slopes,) = torch.autograd.grad(logs, c, weights)
            _add_products(gradient, slopes, x, rows, columns, twice)
        return all_reduce(grads[0], ctx.group) * gradient, None, None, None, None


def as_samples(z: Tensor) -> Tensor:
    """``(*views, n, d)`` as ``(samples, n, d)``, also where this rank has no rows."""
    return z.reshape(math.prod(z.shape[:-2]), *z.shape[-2:])


def _over_views(z: Tensor, one: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([one(sample) for sample in as_samples(z)]).reshape(z.shape[:-2])


def pair_sum(
    z: Tensor, function: Elementwise, derivative: Elementwise, *, diagonal: bool = True, group: Group = None
) -> Tensor:
    r"""Sum an elementwise function over all ordered pairs, :math:`\sum_{i,j} f(\langle z_i, z_j\rangle)`.

    Args:
        z: shape ``(*views, n, d)``; rows of this rank, the sum runs over the rows of all ranks of ``group``.
        function, derivative: ``f`` and ``f'``, elementwise; both must return a tensor of their own (it is written to).
        diagonal: whether the pairs ``i = j`` belong to the sum.

    Returns: shape ``(*views,)``. Memory: one block of the Gram matrix and ``O(n d)``.

    *Numerics.* Blocks are summed pairwise in the type of ``z`` and carried in float64. Second derivatives (one rank)
    are dense: ``O(n^2)`` memory.
    """
    return _over_views(z, lambda x: _PairSum.apply(x, function, derivative, diagonal, group))


def pair_log_sum(
    z: Tensor,
    log_function: Elementwise,
    *,
    diagonal: bool = False,
    centre: float = 0.0,
    group: Group = None,
) -> Tensor:
    r"""Sum over rows of a log-sum over columns, :math:`\sum_i \big( \log \sum_{j} \exp g(\langle z_i, z_j\rangle)
    - \mathrm{centre} \big)`.

    Args as for :func:`pair_sum`; ``log_function`` is ``g``, elementwise and differentiable, and must return a tensor
    of its own (it is written to). ``diagonal=False`` is the leave-one-out sum over ``j != i``. ``centre`` is
    subtracted before anything is rounded to the type of ``z``.

    Returns: shape ``(*views,)``. Memory: one block of the Gram matrix and ``O(n d)``. No second derivatives.
    """
    return _over_views(z, lambda x: _PairLogSum.apply(x, log_function, diagonal, centre, group))
