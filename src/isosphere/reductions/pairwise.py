r"""Sums over all pairs of rows, in blocks: the only code that forms inner products of a sample with itself.

For rows :math:`x_i` and an elementwise function :math:`f` of :math:`c_{ij} = \langle x_i, x_j \rangle`,

.. math:: P = \sum_{i,j} f(c_{ij}), \qquad
          \frac{\partial P}{\partial x_i} = 2 \sum_j f'(c_{ij})\, x_j,

.. math:: Q = \sum_i \log \sum_{j} e^{g(c_{ij})}, \qquad
          \frac{\partial Q}{\partial x_i} = \sum_j (\pi_{ij} + \pi_{ji})\, g'(c_{ij})\, x_j, \quad
          \pi_{ij} = e^{g(c_{ij}) - q_i},

because :math:`f` and :math:`g` are functions of a symmetric matrix. Both derivatives need one rank's rows against
all rows and nothing else: no :math:`n \times n` tensor is formed, kept for backward, or sent between ranks.
"""

__all__ = ["as_samples", "pair_log_sum", "pair_sum"]

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from isosphere.reductions.collective import Group, all_reduce, first_row, gather_rows, row_counts, world_size

Elementwise = Callable[[Tensor], Tensor]

# Elements of one block of the Gram matrix: 2 MiB of float32 stays in a CPU's second-level cache, and a GPU
# wants fewer, larger launches.
_BLOCK = {"cpu": 1 << 19}
_LARGE_BLOCK = 1 << 26


def _row_blocks(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    step = max(1, _BLOCK.get(device.type, _LARGE_BLOCK) // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _sum64(x: Tensor) -> Tensor:
    """Sum of a block: pairwise in its own type, then carried in float64 where the device has it."""
    return x.sum().to(torch.float64 if x.device.type != "mps" else x.dtype)


def _dense_gradient(x: Tensor, derivative: Elementwise) -> Tensor:
    """The gradient of the pair sum as plain differentiable operations (used for second derivatives only)."""
    return 2 * derivative(x @ x.mT) @ x


class _PairSum(torch.autograd.Function):
    """One sample: x (n_r, d) on this rank -> sum over all pairs of all ranks. The gradient is made in the same pass."""

    @staticmethod
    def forward(ctx, x: Tensor, function: Elementwise, derivative: Elementwise, diagonal: bool, group: Group):
        counts = row_counts(x.shape[0], x.device, group)
        everyone = gather_rows(x, counts, group)
        offset = first_row(counts, group)
        gradient = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float64 if x.device.type != "mps" else x.dtype, device=x.device)
        for rows in _row_blocks(x.shape[0], everyone.shape[0], x.device):
            c = x[rows] @ everyone.mT
            own = torch.arange(rows.start, rows.stop, device=x.device)
            values = function(c)
            if not diagonal:
                values[own - rows.start, own + offset] = 0
            total += _sum64(values)
            if gradient is not None:
                slopes = derivative(c)
                if not diagonal:
                    slopes[own - rows.start, own + offset] = 0
                torch.mm(slopes, everyone, out=gradient[rows])
        ctx.save_for_backward(x, gradient)
        ctx.derivative, ctx.diagonal, ctx.group = derivative, diagonal, group
        return all_reduce(total, group).to(x.dtype)

    @staticmethod
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
    """One sample: x (n_r, d) on this rank -> sum over rows of all ranks of log-sum-exp over all columns."""

    @staticmethod
    def forward(ctx, x: Tensor, log_function: Elementwise, diagonal: bool, group: Group):
        counts = row_counts(x.shape[0], x.device, group)
        everyone = gather_rows(x, counts, group)
        offset = first_row(counts, group)
        row_logs = x.new_empty(x.shape[0], 1)
        for rows in _row_blocks(x.shape[0], everyone.shape[0], x.device):
            logs = log_function(x[rows] @ everyone.mT)
            if not diagonal:
                own = torch.arange(rows.start, rows.stop, device=x.device)
                logs[own - rows.start, own + offset] = -torch.inf
            torch.logsumexp(logs, dim=1, keepdim=True, out=row_logs[rows])
        ctx.save_for_backward(x, everyone, row_logs, gather_rows(row_logs, counts, group))
        ctx.log_function, ctx.diagonal, ctx.offset, ctx.group = log_function, diagonal, offset, group
        return all_reduce(_sum64(row_logs), group).to(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "second derivatives of a pair log-sum are not supported: got create_graph=True; for small n write "
                "logsumexp(kernel.log(z @ z.mT)) in plain PyTorch"
            )
        x, everyone, row_logs, all_logs = ctx.saved_tensors
        gradient = torch.empty_like(x)
        for rows in _row_blocks(x.shape[0], everyone.shape[0], x.device):
            with torch.enable_grad():
                c = (x[rows] @ everyone.mT).requires_grad_()
                logs = ctx.log_function(c)
            value = logs.detach()
            weights = torch.exp(value - row_logs[rows]) + torch.exp(value - all_logs.mT)
            if not ctx.diagonal:
                own = torch.arange(rows.start, rows.stop, device=x.device)
                weights[own - rows.start, own + ctx.offset] = 0
            (slopes,) = torch.autograd.grad(logs, c, weights)
            torch.mm(slopes, everyone, out=gradient[rows])
        return all_reduce(grads[0], ctx.group) * gradient, None, None, None


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
    z: Tensor, log_function: Elementwise, *, diagonal: bool = False, group: Group = None
) -> Tensor:
    r"""Sum over rows of a log-sum over columns, :math:`\sum_i \log \sum_{j} \exp g(\langle z_i, z_j\rangle)`.

    Args as for :func:`pair_sum`; ``log_function`` is ``g``, elementwise and differentiable, and must return a tensor
    of its own (it is written to). ``diagonal=False`` is the leave-one-out sum over ``j != i``.

    Returns: shape ``(*views,)``. Memory: one block of the Gram matrix and ``O(n d)``. No second derivatives.
    """
    return _over_views(z, lambda x: _PairLogSum.apply(x, log_function, diagonal, group))
