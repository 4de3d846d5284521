r"""One pass over a block of the Gram matrix, by Triton: what a statistic needs of every pair, while it is read once.

PyTorch evaluates the sum that stands for a function of the cosine by a pass over the block for each of its terms, and
value and slope by themselves. Here each tile of the block is read once, and its slopes are written in its place: of the
products that made it and use it nothing changes. All in float32; sums of tiles are added up in float64.

Imported where it is used, on CUDA alone. With ``TRITON_INTERPRET=1`` Triton's interpreter runs the same on a CPU, very
slowly: that is how it has been tested. It compiles for an H200; it has not run on a GPU yet, nor been timed.
"""

# Triton's declarations leave out that a kernel is called with plain numbers for its constants.
# pyright: reportCallIssue=false, reportArgumentType=false

import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal, Protocol

import torch
import triton
import triton.language as tl
from torch import Tensor

from isosphere.devices import constant

__all__ = ["Series", "log_sums", "log_weights", "mean_and_slopes", "usable"]

SIDE = 64
"""Of a tile."""
WARPS = 8
"""With 4 a thread needs up to 207 registers on an H200, by ptxas."""


class Series(Protocol):
    """A sum that stands for a function of the cosine on [-1, 1]: of monomials or Chebyshev polynomials, in c or in the
    cosine stretched by ``width`` (0: not), times ``c - 1`` where it is ``vanishing``.
    """

    @property
    def coefficients(self) -> tuple[float, ...]: ...
    @property
    def monomial(self) -> bool: ...
    @property
    def vanishing(self) -> bool: ...
    @property
    def width(self) -> float: ...


class _Line:
    """f(c) = c, and its slope."""

    coefficients, monomial, vanishing, width = (0.0, 1.0), True, False, 0.0


class _One(_Line):
    coefficients = (1.0,)


_LINE = _Line(), _One()
Passes = Literal["mean", "log"]


@cache
def usable(device: torch.device, series: tuple[Series, Series], passes: Passes) -> bool:
    """Whether Triton compiles and runs all passes of a mean, or of a sum of logarithms, of this function on a device,
    and adds up rightly; where it does not, a warning says why.
    """
    try:
        _try(device, series, passes)
        for found, expected in zip(_try(device, _LINE, passes), _OF_HALVES[passes], strict=True):
            if not torch.allclose(found.cpu().double(), torch.tensor(expected, dtype=torch.float64)):
                raise RuntimeError(f"of four halves it makes {found.flatten()[0]:g} in place of {expected:g}")
    except Exception as error:  # whatever its chain of tools raises
        said = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        warnings.warn(f"Triton fails on {device} ({said}): statistics go by PyTorch's blocks", stacklevel=2)
        return False
    return True


_OF_HALVES = {"mean": (2.0, 1.0), "log": (0.5 + math.log(2), 0.5 + math.log(2), 1.0)}
"""Sum and slopes of c over a block of four halves; log-sums of its rows and columns, and slopes by their weights."""


def _try(device: torch.device, series: tuple[Series, Series], passes: Passes) -> tuple[Tensor, ...]:
    """What the passes make of a block of four halves."""
    c = torch.full((1, 2, 2), 0.5, device=device)
    if passes == "mean":
        return mean_and_slopes(c, series, twice=2, without=None, slopes=True), c
    logs = log_sums(c, series, without=None)
    log_weights(c, series, *logs, without=None)
    return *logs, c


def mean_and_slopes(
    c: Tensor, series: tuple[Series, Series], *, twice: int, without: int | None, slopes: bool
) -> Tensor:
    """Sums of f(c) over the block of each view, float64 ``(views,)``; with `slopes`, c holds f'(c) afterwards.

    Args:
        c: ``(views, rows, columns)``, float32, contiguous. series: of f and of f'.
        twice: column from which on a pair counts twice.
        without: number of the diagonal that is left out, where slopes are 0.
    """
    views, rows, columns = c.shape
    grid = triton.cdiv(rows, SIDE), triton.cdiv(columns, SIDE), views
    totals = c.new_empty(views, grid[0], grid[1])
    with _on(c):
        _mean_tile[grid](
            c, totals, *_numbers(series, c), rows, columns, twice, without or 0, without is not None, slopes,
            *_form(series[0]), *_form(series[1]), SIDE, num_warps=WARPS,
        )  # fmt: skip
    return totals.double().sum((-2, -1))


def log_sums(c: Tensor, series: tuple[Series, Series], *, without: int | None) -> tuple[Tensor, Tensor]:
    """``log sum exp g(c)`` of each row ``(views, rows)`` and of each column ``(views, columns)`` of a block."""
    views, rows, columns = c.shape
    grid = triton.cdiv(rows, SIDE), triton.cdiv(columns, SIDE), views
    of_rows, of_columns = c.new_empty(views, rows, grid[1]), c.new_empty(views, grid[0], columns)
    with _on(c):
        _log_sum_tile[grid](
            c, of_rows, of_columns, *_numbers(series, c)[:1], rows, columns, without or 0, without is not None,
            *_form(series[0]), SIDE, num_warps=WARPS,
        )  # fmt: skip
    return of_rows.logsumexp(-1), of_columns.logsumexp(-2)


def log_weights(
    c: Tensor, series: tuple[Series, Series], of_rows: Tensor, of_columns: Tensor, *, without: int | None
) -> None:
    """Replace c by ``(exp(g(c) - q_i) + exp(g(c) - q_j)) g'(c)``, where q are the log-sums of rows and of columns."""
    views, rows, columns = c.shape
    grid = triton.cdiv(rows, SIDE), triton.cdiv(columns, SIDE), views
    with _on(c):
        _weight_tile[grid](
            c, of_rows.contiguous(), of_columns.contiguous(), *_numbers(series, c), rows, columns, without or 0,
            without is not None, *_form(series[0]), *_form(series[1]), SIDE, num_warps=WARPS,
        )  # fmt: skip


def _on(c: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever its tensors are on."""
    return torch.cuda.device(c.device) if c.is_cuda else nullcontext()


def _numbers(series: tuple[Series, Series], c: Tensor) -> tuple[Tensor, Tensor]:
    first, second = (constant(tuple(one.coefficients), c.device) for one in series)
    return first, second


def _form(series: Series) -> tuple[Any, ...]:
    reach = math.asinh(1 / series.width) if series.width else 0.0
    return len(series.coefficients) - 1, series.monomial, series.vanishing, series.width, reach


@triton.jit
def _evaluate(
    x, a, DEGREE: tl.constexpr, MONOMIAL: tl.constexpr, VANISHING: tl.constexpr, WIDTH: tl.constexpr,
    REACH: tl.constexpr,
):  # fmt: skip
    y = x
    if WIDTH > 0:
        root = tl.sqrt(tl.minimum(tl.maximum((1 + x) * 0.5, 0.0), 1.0)) / WIDTH
        y = tl.log(root + tl.sqrt(root * root + 1)) / REACH
        y = 2 * y * y - 1
    total = tl.zeros_like(x) + tl.load(a + DEGREE)
    if MONOMIAL:
        for k in range(DEGREE):
            total = total * y + tl.load(a + DEGREE - 1 - k)
    else:
        after = tl.zeros_like(x)
        for k in range(DEGREE - 1):
            here = 2 * y * total + (tl.load(a + DEGREE - 1 - k) - after)
            after = total
            total = here
        if DEGREE > 0:
            total = y * total + (tl.load(a) - after)
    if VANISHING:
        total = total * (x - 1)
    return total


@triton.jit
def _tile(c, rows, columns, without, EXCLUDE: tl.constexpr, SIDE: tl.constexpr):
    """Rows and columns of this program's tile, their places in memory, which of them there are, and which count."""
    i = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
    j = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    there = (i < rows)[:, None] & (j < columns)[None, :]
    places = c + (tl.program_id(2).to(tl.int64) * rows + i[:, None]) * columns + j[None, :]
    counts = there
    if EXCLUDE:
        counts = there & (j[None, :] - i[:, None] != without)
    return i, j, places, there, counts


@triton.jit
def _mean_tile(
    c, totals, value, slope, rows, columns, twice, without, EXCLUDE: tl.constexpr, SLOPES: tl.constexpr,
    D0: tl.constexpr, M0: tl.constexpr, V0: tl.constexpr, W0: tl.constexpr, R0: tl.constexpr,
    D1: tl.constexpr, M1: tl.constexpr, V1: tl.constexpr, W1: tl.constexpr, R1: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    _, j, places, there, counts = _tile(c, rows, columns, without, EXCLUDE, SIDE)
    x = tl.load(places, mask=there, other=0.0)
    weighted = _evaluate(x, value, D0, M0, V0, W0, R0) * tl.where(j >= twice, 2.0, 1.0)[None, :]
    total = tl.sum(tl.sum(tl.where(counts, weighted, 0.0), 1), 0)
    number = (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)) * tl.num_programs(1) + tl.program_id(
        1
    )
    tl.store(totals + number, total)
    if SLOPES:
        tl.store(places, tl.where(counts, _evaluate(x, slope, D1, M1, V1, W1, R1), 0.0), mask=there)


@triton.jit
def _log_sum(x, AXIS: tl.constexpr):
    largest = tl.max(x, AXIS)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    return largest + tl.log(tl.sum(tl.exp(x - tl.expand_dims(largest, AXIS)), AXIS))


@triton.jit
def _log_sum_tile(
    c, of_rows, of_columns, value, rows, columns, without, EXCLUDE: tl.constexpr,
    D0: tl.constexpr, M0: tl.constexpr, V0: tl.constexpr, W0: tl.constexpr, R0: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    i, j, places, there, counts = _tile(c, rows, columns, without, EXCLUDE, SIDE)
    x = tl.load(places, mask=there, other=0.0)
    logs = tl.where(counts, _evaluate(x, value, D0, M0, V0, W0, R0), float("-inf"))
    view = tl.program_id(2).to(tl.int64)
    row_places = of_rows + (view * rows + i) * tl.num_programs(1) + tl.program_id(1)
    tl.store(row_places, _log_sum(logs, 1), mask=i < rows)
    column_places = of_columns + (view * tl.num_programs(0) + tl.program_id(0)) * columns + j
    tl.store(column_places, _log_sum(logs, 0), mask=j < columns)


@triton.jit
def _weight_tile(
    c, of_rows, of_columns, value, slope, rows, columns, without, EXCLUDE: tl.constexpr,
    D0: tl.constexpr, M0: tl.constexpr, V0: tl.constexpr, W0: tl.constexpr, R0: tl.constexpr,
    D1: tl.constexpr, M1: tl.constexpr, V1: tl.constexpr, W1: tl.constexpr, R1: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    i, j, places, there, counts = _tile(c, rows, columns, without, EXCLUDE, SIDE)
    x = tl.load(places, mask=there, other=0.0)
    logs, view = _evaluate(x, value, D0, M0, V0, W0, R0), tl.program_id(2).to(tl.int64)
    row = tl.load(of_rows + view * rows + i, mask=i < rows, other=0.0)
    column = tl.load(of_columns + view * columns + j, mask=j < columns, other=0.0)
    weights = tl.exp(logs - row[:, None]) + tl.exp(logs - column[None, :])
    slopes = weights * _evaluate(x, slope, D1, M1, V1, W1, R1)
    tl.store(places, tl.where(counts, slopes, 0.0), mask=there)
