r"""Means over all pairs of rows, in blocks: the only code that forms inner products of a sample with itself.

For rows :math:`x_i` and an elementwise function :math:`f` of :math:`c_{ij} = \langle x_i, x_j \rangle`,

.. math:: P = \sum_{i,j} f(c_{ij}), \qquad
          \frac{\partial P}{\partial x_i} = 2 \sum_j f'(c_{ij})\, x_j,

.. math:: Q = \sum_i \log \sum_{j} e^{g(c_{ij})}, \qquad
          \frac{\partial Q}{\partial x_i} = \sum_j (\pi_{ij} + \pi_{ji})\, g'(c_{ij})\, x_j, \quad
          \pi_{ij} = e^{g(c_{ij}) - q_i},

because :math:`f` and :math:`g` are functions of a symmetric matrix. Both derivatives need one rank's rows against
all rows and nothing else: no :math:`n \times n` tensor is formed, kept for backward, or sent between ranks. Where one
rank holds all rows, each unordered pair is visited once.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from isosphere.reductions import _precision
from isosphere.reductions._collective import Group, all_reduce, first_row, gather_rows, row_counts
from isosphere.reductions._fused import fused
from isosphere.reductions._precision import widest

if TYPE_CHECKING:
    from isosphere.reductions._tiles import Passes, Series

    Sums = tuple[Series, Series]
    SumsOf = Callable[[], Sums | None]

WITH_TILES = {"cuda", "cpu"} if os.environ.get("TRITON_INTERPRET") == "1" else {"cuda"}
"""Devices on which one pass of Triton goes over a block: of a CPU Triton's interpreter."""

PairFunction = Callable[[Tensor, int], Tensor]
"""An elementwise function of the inner products and its derivatives: ``f(c, 0)``, ``f(c, 1)``."""
Elementwise = Callable[[Tensor], Tensor]

# Elements of one block of the Gram matrix: 2 MiB of float32 stays in a CPU's second-level cache, and a GPU
# wants fewer, larger launches.
_BLOCK = {"cpu": 1 << 19}
_LARGE_BLOCK = 1 << 26
_MOST_VIEWS = 65_535  # together, by what CUDA takes as the third side of a grid
# Rows of a block where the symmetric half is left out: few enough that little of it is visited after all.
_ROWS = {"cpu": 128}
_LARGE_ROWS = 4096


class _Block(NamedTuple):
    """A block of the Gram matrices of one view or, as a slice, of all: their ``rows`` against ``columns``.

    Where one rank holds all rows it starts at its own diagonal, and what lies in the columns ``twice``, right of
    its square, stands for the mirrored pairs too. The pairs i = i are on the diagonal number ``shift``.
    """

    views: int | slice
    rows: slice
    columns: Tensor
    twice: slice
    shift: int


def _blocks(samples: Tensor, everyone: Tensor, first: int, alone: bool) -> Iterator[_Block]:
    """Cover all pairs of this rank's rows with everyone's, of which they are those from ``first`` on.

    On a CPU view after view; elsewhere all views at once where their pairs are few, which spares launches.
    """
    views, n, _ = samples.shape
    kind, total = samples.device.type, everyone.shape[1]
    step = max(1, _BLOCK.get(kind, _LARGE_BLOCK) // max(total, 1))
    if alone:
        step = min(step, _ROWS.get(kind, _LARGE_ROWS))
    together = kind != "cpu" and views * n * total <= _LARGE_BLOCK
    first_views = range(0, views, _MOST_VIEWS)
    parts = map(slice, first_views, range(_MOST_VIEWS, views + _MOST_VIEWS, _MOST_VIEWS))
    for view in parts if together else range(views):
        others = everyone[view]
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            if alone:
                yield _Block(view, rows, others[..., start:, :], slice(rows.stop - start, None), 0)
            else:
                yield _Block(view, rows, others, slice(0, 0), start + first)


def _tiles_for(
    samples: Tensor, series: "SumsOf | None", passes: "Passes"
) -> "tuple[ModuleType, Sums] | None":
    """The passes of :mod:`isosphere.reductions._tiles` and their sums where they are chosen: in float32, for a function
    that comes as sums; else None.
    """
    if series is None or samples.dtype != torch.float32 or find_spec("triton") is None:
        return None
    if (sums := series()) is None:
        return None
    tiles = _tiles_module()
    return None if tiles is None or not tiles.usable(samples.device, sums, passes) else (tiles, sums)


@cache
def _tiles_module() -> ModuleType | None:
    """The passes by Triton; None, and a warning, where an installed Triton cannot be imported."""
    try:
        from isosphere.reductions import _tiles
    except Exception as error:  # whatever its libraries raise
        said = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        warnings.warn(f"Triton cannot be imported ({said}): statistics go by PyTorch's blocks", stacklevel=2)
        return None
    return _tiles


def pair_mean(
    z: Tensor,
    function: PairFunction,
    *,
    diagonal: bool = True,
    group: Group = None,
    series: "SumsOf | None" = None,
) -> Tensor:
    r"""Mean of an elementwise function over all ordered pairs, :math:`\frac{1}{n^2} \sum_{i,j} f(\langle z_i, z_j
    \rangle)`.

    Args:
        z: rows of this rank; the mean runs over the pairs of all ranks' rows.
        function: ``f(c, order)``, the order-th derivative of f, elementwise. It must return a tensor of its own
            (which is written to); from order 2 on it is only asked for second derivatives.
        diagonal: whether the pairs ``i = j`` belong to the mean (else over ``n (n - 1)`` pairs).
        group: the ranks.
        series: makes f and its derivative as sums (``kernel.centred_series``), by which a CUDA GPU with Triton takes
            one pass over a block.

    Shape:
        ``(*views, n, d)`` to ``(*views,)``. Memory: one block of the Gram matrix and ``O(n d)``.
    Raises:
        ValueError: fewer than two rows without the diagonal.
    Numerics:
        Blocks are summed pairwise in the type of z and carried in float64. Second derivatives (one rank) are dense:
        O(n^2) memory.
    """
    compute = partial(_mean, function=function, diagonal=diagonal, group=group, series=series)
    return fused(z, compute, partial(plain_mean, function=function, diagonal=diagonal), group)


def _mean(
    samples: Tensor,
    wanted: bool,
    *,
    function: PairFunction,
    diagonal: bool,
    group: Group,
    series: "SumsOf | None",
) -> tuple[Tensor, Tensor | None]:
    counts = row_counts(samples.shape[1], samples.device, group)
    n, alone = sum(counts), len(counts) == 1
    pairs = n * n if diagonal else n * (n - 1)
    if not pairs:
        raise ValueError(f"got {n} row(s), expected at least {1 if diagonal else 2}: there are no pairs")
    everyone, first = (
        (samples, 0) if alone else (gather_rows(samples, counts, group), first_row(counts, group))
    )
    wide = samples.dtype if samples.device.type in _precision.WITHOUT_FLOAT64 else torch.float64
    totals = torch.zeros(len(samples), dtype=wide, device=samples.device)
    gradient = torch.zeros_like(samples) if wanted else None
    by_tiles = _tiles_for(samples, series, "mean") if samples.device.type in WITH_TILES else None
    for view, rows, columns, twice, shift in _blocks(samples, everyone, first, alone):
        own, total = samples[view, ..., rows, :], totals[view]
        c = own @ columns.mT
        if by_tiles is not None:
            tiles, sums = by_tiles
            counted = {"twice": twice.start if alone else c.shape[-1], "without": None if diagonal else shift}
            block = c if c.ndim == 3 else c[None]
            total += tiles.mean_and_slopes(block, sums, slopes=wanted, **counted).view(total.shape)
        else:
            values = function(c, 0)
            if not diagonal:
                values.diagonal(shift, -2, -1).zero_()
            total += values.sum((-2, -1))
            if c[..., twice].numel():
                total += values[..., twice].sum((-2, -1))
        if gradient is not None:
            slopes = c if by_tiles is not None else function(c, 1)
            if not diagonal:
                slopes.diagonal(shift, -2, -1).zero_()
            add = Tensor.addmm_ if own.ndim == 2 else Tensor.baddbmm_
            add(gradient[view, ..., rows, :], slopes, columns)
            if slopes[..., twice].numel():
                add(gradient[view, ..., rows.stop :, :], slopes[..., twice].mT, own)
    if not alone:
        totals = all_reduce(totals, group)
    return (totals / pairs).to(samples.dtype), None if gradient is None else gradient.mul_(2 / pairs)


def plain_mean(z: Tensor, function: PairFunction, diagonal: bool) -> Tensor:
    values, n = function(z @ z.mT, 0), z.shape[-2]
    if diagonal:
        return values.mean((-2, -1))
    return values.masked_fill(_selves(z), 0).sum((-2, -1)) / (n * (n - 1))


def _selves(z: Tensor) -> Tensor:
    return torch.eye(z.shape[-2], dtype=torch.bool, device=z.device)


def pair_log_sum(
    z: Tensor,
    log_function: Elementwise,
    *,
    diagonal: bool = False,
    centre: float = 0.0,
    group: Group = None,
    series: "SumsOf | None" = None,
) -> Tensor:
    r"""Sum over rows of a log-sum over columns, :math:`\sum_i \big( \log \sum_{j} \exp g(\langle z_i, z_j\rangle)
    - \mathrm{centre} \big)`.

    Args:
        z: rows of this rank; the sums run over the rows of all ranks.
        log_function: g, elementwise and differentiable. It must return a tensor of its own (which is written to).
        diagonal: False: the leave-one-out sum over ``j != i``.
        centre: subtracted before anything is rounded to the type of z.
        group: the ranks.
        series: of g, as of :func:`pair_mean`.

    Shape:
        ``(*views, n, d)`` to ``(*views,)``. Memory: one block of the Gram matrix and ``O(n d)``; for second derivatives
        (one rank) O(n^2).
    """
    compute = partial(
        _log_sum, log_function=log_function, diagonal=diagonal, centre=centre, group=group, series=series
    )
    plain = partial(_plain_log_sum, log_function=log_function, diagonal=diagonal, centre=centre)
    return fused(z, compute, plain, group)


def _log_sum(
    samples: Tensor,
    wanted: bool,
    *,
    log_function: Elementwise,
    diagonal: bool,
    centre: float,
    group: Group,
    series: "SumsOf | None",
) -> tuple[Tensor, Tensor | None]:
    counts = row_counts(samples.shape[1], samples.device, group)
    alone, first = len(counts) == 1, first_row(counts, group)
    everyone = gather_rows(samples, counts, group)
    row_logs = samples.new_full(samples.shape[:2], -torch.inf)
    by_tiles = _tiles_for(samples, series, "log") if samples.device.type in WITH_TILES else None
    for view, rows, columns, twice, shift in _blocks(samples, everyone, first, alone):
        own, c = row_logs[view], samples[view, ..., rows, :] @ columns.mT
        if by_tiles is not None:
            tiles, sums = by_tiles
            block, without = c if c.ndim == 3 else c[None], None if diagonal else shift
            of_rows, of_columns = tiles.log_sums(block, sums, without=without)
            own[..., rows] = torch.logaddexp(own[..., rows], of_rows.view(own[..., rows].shape))
            if c[..., twice].numel():
                below = own[..., rows.stop :]
                mirrored = of_columns[..., twice].view(below.shape)
                own[..., rows.stop :] = torch.logaddexp(below, mirrored)
            continue
        logs = log_function(c)
        if not diagonal:
            logs.diagonal(shift, -2, -1).fill_(-torch.inf)
        own[..., rows] = torch.logaddexp(own[..., rows], logs.logsumexp(-1))
        if logs[..., twice].numel():
            below = own[..., rows.stop :]
            own[..., rows.stop :] = torch.logaddexp(below, logs[..., twice].logsumexp(-2))
    value = all_reduce((widest(row_logs) - centre).sum(1), group).to(samples.dtype)
    all_logs = gather_rows(row_logs[..., None], counts, group)[..., 0]
    if not wanted:
        return value, None
    gradient = torch.zeros_like(samples)
    for view, rows, columns, twice, shift in _blocks(samples, everyone, first, alone):
        own = samples[view, ..., rows, :]
        slopes, theirs = own @ columns.mT, all_logs[view, ..., all_logs.shape[1] - columns.shape[-2] :]
        if by_tiles is not None:
            tiles, sums = by_tiles
            block, logs_of = slopes if slopes.ndim == 3 else slopes[None], (row_logs[view, ..., rows], theirs)
            tiles.log_weights(block, sums, *logs_of, without=None if diagonal else shift)
        else:
            c = slopes.requires_grad_()
            with torch.enable_grad():
                logs = log_function(c)
            exponent = logs.detach()
            weights = torch.exp(exponent - row_logs[view, ..., rows, None])
            weights += (exponent - theirs[..., None, :]).exp_()
            if not diagonal:
                weights.diagonal(shift, -2, -1).zero_()
            (slopes,) = torch.autograd.grad(logs, c, weights)
        add = Tensor.addmm_ if own.ndim == 2 else Tensor.baddbmm_
        add(gradient[view, ..., rows, :], slopes, columns)
        if slopes[..., twice].numel():
            add(gradient[view, ..., rows.stop :, :], slopes[..., twice].mT, own)
    return value, gradient


def _plain_log_sum(z: Tensor, log_function: Elementwise, diagonal: bool, centre: float) -> Tensor:
    logs = log_function(z @ z.mT)
    if not diagonal:
        logs = logs.masked_fill(_selves(z), -torch.inf)
    return (logs.logsumexp(-1) - centre).sum(-1)
