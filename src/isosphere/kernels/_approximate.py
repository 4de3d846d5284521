"""Short sums in place of a slow function of the cosine: fit, fold, evaluate.

A :class:`Profile` is a function on [-1, 1] that is sampled exactly but slowly, with every derivative. Samples at
Chebyshev points become a series that is resolved to rounding (fit); for float32 the series becomes the shortest
polynomial that loses nothing (fold); and this is summed in passes that stay in cache (evaluate). Every derivative
is a sum of its own, so autograd keeps c alone.

Nothing here knows what a kernel is. A profile comes as a function and the value that it is made from,
``profile_of(key)``: results are kept under the two, and a compiler takes both for constants.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from isosphere.sphere import Elementwise, gegenbauer

__all__ = ["Profile", "as_cosines", "constant_when_compiled", "evaluate", "fold", "shortest_sum"]

_FIRST, _LAST = 24, 1 << 14  # degrees of the first and of the longest fit
_DIRECT, _NARROW = (
    64,
    0.15,
)  # what changes its form near c = -1: fitted stretched beyond this degree, or if this narrow
_SINGLE, _DOUBLE = 1e-9, 4e-16  # tail of a trimmed series, relative to the sum of its coefficients
_FOLDED = 24  # degree of a polynomial; a longer one is slower than a Chebyshev series, and loses digits
_TRUNCATION = 1e-8  # of a polynomial, relative to the largest value
_ROUNDING = 2.4e-7  # of its float32 sum: two units in the last place of float32 at 1
_CHUNK = 1 << 15  # elements per thread and pass: the three buffers stay in a core's cache
_LARGE_CHUNK = 1 << 19  # of a polynomial, which has one buffer

Samples = Callable[[Tensor, int], Tensor]
F = TypeVar("F", bound=Callable[..., object])


class Profile(NamedTuple):
    """A function of the cosine and its derivatives, as exact but slow samples at float64 points.

    Args:
        dim: dimension in which a Gegenbauer expansion of the function is meant.
        samples: values of the m-th derivative at c.
        leading: the first three Gegenbauer coefficients (``P_l(1) = 1``) of the m-th derivative, in dimension
            ``dim + 2 m``. Folding keeps them exactly, and with them the mean. None: nothing is to be kept.
        width: distance ``sqrt((1 + c) / 2)`` from c = -1 within which the function may change its form; such a
            function vanishes at c = 1. None: smooth.
        samples_near: as samples, at ``c = 2 x^2 - 1`` given x, because rounding that would lose what is near -1.
    """

    dim: int
    samples: Samples
    leading: Callable[[int], np.ndarray] | None = None
    width: float | None = None
    samples_near: Samples | None = None


class Sum(NamedTuple):
    """``sum_k a_k x^k`` or ``sum_k a_k T_k(x)``, perhaps times ``c - 1``."""

    coefficients: tuple[float, ...]
    monomial: bool
    vanishing: bool  # times c - 1
    width: float  # 0: x = c, else x is the stretched cosine of this width


def constant_when_compiled(function: F) -> F:
    """Let ``torch.compile`` run a function while it traces, and bake in the result, instead of looking into it.

    ``torch.compiler.assume_constant_result`` does the same, but loads the whole compiler (seconds) to set one mark.
    """
    function.__dict__["_dynamo_marked_constant"] = True
    return function


# -- evaluate


def evaluate(c: Tensor, profile_of: Callable[[Any], Profile], key: Hashable, order: int = 0) -> Tensor:
    """The order-th derivative of the profile at c, elementwise, differentiable to any order.

    Raises:
        TypeError: c is not floating point.
        ValueError: the profile needs more than 16,384 terms.
    """
    if c.dtype is not torch.float32:
        c = as_cosines(c)
    dual = forward_ad._current_level >= 0 and torch._C._is_fwd_grad_enabled()
    plain = type(c) is Tensor and not (torch.is_grad_enabled() or _transformed() or dual)
    if torch.compiler.is_compiling() or not plain:
        function = _Traced if torch.compiler.is_compiling() else _Evaluate
        return function.apply(c, profile_of, key, order)
    add_up, one_buffer = _ready_sum(profile_of, key, order, c.dtype, c.device)
    chunk = (_LARGE_CHUNK if one_buffer else _CHUNK) * torch.get_num_threads()
    return add_up(c) if c.numel() <= chunk or c.device.type != "cpu" else _in_chunks(c, add_up, chunk)


def as_cosines(c: Tensor) -> Tensor:
    """c in float32 at least; refuses integers."""
    if not c.is_floating_point():
        raise TypeError(f"c must be a floating-point tensor of cosines, got {c.dtype}: use c.float()")
    return c.float() if c.dtype in (torch.float16, torch.bfloat16) else c


_transformed = torch._C._are_functorch_transforms_active  # inside torch.func: tensors are not what they seem


class _Evaluate(Elementwise):
    @staticmethod
    def forward(c: Tensor, profile_of: Callable[[Any], Profile], key: Hashable, order: int) -> Tensor:
        if not torch.compiler.is_compiling() and type(c) is Tensor:
            return evaluate(c, profile_of, key, order)  # here autograd is off
        # Plain operations: a compiler bakes the numbers into one fused loop, and tensor subclasses need no copies.
        how = _constant_sum(profile_of, key, order, c.dtype == torch.float32)
        return _add_up([c.new_full((), a) for a in how.coefficients], how, False, c)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (c,), (profile_of, key, order) = ctx.saved_tensors, ctx.rest
        return grads[0] * evaluate(c, profile_of, key, order + 1), None, None, None


class _Traced(_Evaluate):
    # A compiler refuses functions that bring one.
    jvp = torch.autograd.Function.jvp  # pyright: ignore[reportAssignmentType]


@lru_cache(maxsize=2048)
def _ready_sum(
    profile_of: Callable[[Any], Profile], key: Hashable, order: int, dtype: torch.dtype, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], bool]:
    """The sum, its numbers being tensors (a fused multiply-add takes nothing else), and if it needs one buffer only."""
    how = shortest_sum(profile_of, key, order, dtype == torch.float32)
    with torch.inference_mode(False):
        a = torch.tensor(how.coefficients, dtype=torch.float64, device="cpu").to(dtype).to(device).unbind()
    plain = how.monomial and not how.vanishing and not how.width
    return (partial(horner, a, True) if plain else partial(_add_up, a, how, True)), plain


# A compiler must run this, not look into it: a fit is data-dependent Python.
@constant_when_compiled
def _constant_sum(profile_of: Callable[[Any], Profile], key: Hashable, order: int, single: bool) -> Sum:
    return shortest_sum(profile_of, key, order, single)


def _in_chunks(c: Tensor, add_up: Callable[[Tensor], Tensor], size: int) -> Tensor:
    flat = c.contiguous().view(-1)
    out = torch.empty_like(flat)
    for x, y in zip(flat.split(size), out.split(size), strict=True):
        y.copy_(add_up(x))
    return out.view(c.shape)


def _add_up(a: Sequence[Tensor], how: Sum, in_place: bool, c: Tensor) -> Tensor:
    x = stretched(c, how.width) if how.width else c
    total = horner(a, in_place, x) if how.monomial else _clenshaw(a, in_place, x)
    return total * (c - 1) if how.vanishing else total


def horner(a: Sequence[Tensor], in_place: bool, x: Tensor) -> Tensor:
    """``a_0 + x (a_1 + x (a_2 + ...))``: one fused operation a term, over one buffer if in place."""
    if len(a) == 1:
        return torch.zeros_like(x) + a[0]
    total = torch.addcmul(a[-2], x, a[-1])
    for k in range(len(a) - 3, -1, -1):
        total = torch.addcmul(a[k], total, x, out=total if in_place else None)
    return total


def _clenshaw(a: Sequence[Tensor], in_place: bool, x: Tensor) -> Tensor:
    """``sum_k a_k T_k(x)``: two operations a term, over two buffers if in place."""
    twice = 2 * x
    after, total = torch.zeros_like(x), torch.zeros_like(x) + a[-1]
    for k in range(len(a) - 2, -1, -1):
        # b_k = a_k + 2 x b_{k+1} - b_{k+2} (x alone in the last step), written over b_{k+2}
        after = torch.sub(a[k], after, out=after if in_place else None)
        after = torch.addcmul(after, twice if k else x, total, out=after if in_place else None)
        after, total = total, after
    return total


# -- fit


@lru_cache(maxsize=1024)
def shortest_sum(profile_of: Callable[[Any], Profile], key: Hashable, order: int, single: bool) -> Sum:
    """The sum to use in float32 (single) or float64.

    Raises:
        ValueError: the profile needs more than 16,384 terms.
    """
    profile, fit = profile_of(key), _fit(profile_of, key, order)
    if single and not fit.width:
        leading = profile.leading(order) if profile.leading else None
        folded = fold(fit.coefficients, leading, profile.dim + 2 * order)
        if folded is not None:
            return Sum(folded, True, fit.vanishing, 0.0)
    return Sum(_trimmed(fit.coefficients, _SINGLE if single else _DOUBLE), False, fit.vanishing, fit.width)


class _Fit(NamedTuple):
    coefficients: np.ndarray
    vanishing: bool
    width: float


@lru_cache(maxsize=512)
def _fit(profile_of: Callable[[Any], Profile], key: Hashable, order: int) -> _Fit:
    """Chebyshev coefficients, resolved to rounding, in c or in the stretched cosine, whichever is short.

    What vanishes at c = 1 is fitted divided by c - 1, and so stays accurate relative to itself.
    """
    profile = profile_of(key)
    vanishing = profile.width is not None and order == 0
    fit = None
    if profile.width is None or profile.width > _NARROW:
        fit = _resolved(profile, order, vanishing, 0.0, _LAST if profile.width is None else _DIRECT)
    if fit is None and profile.width is not None:
        fit = _resolved(profile, order, vanishing, profile.width, _LAST)
    if fit is None:
        raise ValueError(
            f"{key!r} is too sharp to be evaluated: lower its concentration, bandwidth or degree"
        )
    return fit


def _resolved(profile: Profile, order: int, vanishing: bool, width: float, last: int) -> _Fit | None:
    """Double the points until the last quarter of the coefficients is rounding; None beyond `last`."""
    degree = _FIRST
    while degree <= last:
        angle = (np.arange(degree + 1) + 0.5) * (math.pi / (degree + 1))
        if width and profile.samples_near is not None:
            x = width * np.sinh(np.cos(angle / 2) * math.asinh(1 / width))
            values, below = profile.samples_near(torch.from_numpy(x), order).numpy(), -2 * (1 - x) * (1 + x)
        else:
            c = np.cos(angle)
            values, below = profile.samples(torch.from_numpy(c), order).numpy(), c - 1
        a = _cosine_transform(values / below if vanishing else values)
        size = np.abs(a)
        if size[-max(4, degree // 4) :].max() <= 2e-16 * size.sum() * math.sqrt(degree):
            a.setflags(write=False)
            return _Fit(a, vanishing, width)
        degree *= 2
    return None


def _cosine_transform(values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients from values at cos((j + 1/2) pi / n), j = 0..n-1 (a type-II transform)."""
    n = values.size
    spectrum = np.fft.fft(np.concatenate([values, values[::-1]]))[:n]
    a = (spectrum * np.exp(-0.5j * np.pi * np.arange(n) / n)).real / n
    a[0] /= 2
    return a


def _trimmed(a: np.ndarray, tolerance: float) -> tuple[float, ...]:
    """The series without the tail whose absolute sum is below the tolerance relative to that of all."""
    tail = np.cumsum(np.abs(a[::-1]))[::-1]
    keep = np.nonzero(tail > tolerance * tail[0])[0]
    return tuple(a[: keep[-1] + 1].tolist()) if keep.size else (0.0,)


def stretched(c: Tensor, width: float) -> Tensor:
    """``2 (asinh(x / w) / asinh(1 / w))^2 - 1``, ``x = sqrt((1 + c) / 2)``: opens what is next to c = -1.

    The logarithm of a heat kernel changes its form at distance w from the antipode, and has singularities at
    x = i w and beyond. After this map they stay away from [-1, 1] by a distance that falls only like 1 / log(1 / w).
    """
    x = torch.sqrt(((1 + c) / 2).clamp(0, 1))
    return 2 * (torch.asinh(x / width) / math.asinh(1 / width)).square() - 1


# -- fold


def fold(series: np.ndarray, leading: np.ndarray | None, dim: int) -> tuple[float, ...] | None:
    """Monomial coefficients of the shortest accurate polynomial, or None if float32 would lose digits in it.

    Dropping the tail of a Chebyshev series moves the mean under the uniform law by the size of the tail, and near
    uniformity an MMD is all but zero. So the polynomial keeps the leading Gegenbauer coefficients exactly, and only
    the others make up for the tail, by least squares at Chebyshev points.

    Args:
        series: Chebyshev coefficients of the function on [-1, 1].
        leading: its first Gegenbauer coefficients in dimension dim, to be kept; None: the series is cut off.
    """
    points = np.cos((np.arange(257) + 0.5) * (math.pi / 257))
    exact = np.polynomial.chebyshev.chebval(points, series)
    largest = np.abs(exact).max()
    kept = 0 if leading is None else leading.size
    most = min(_FOLDED, series.size - 1)
    basis = (
        None if leading is None else gegenbauer(torch.from_numpy(points), max(most, kept - 1), dim).numpy()
    )
    for degree in range(max(kept - 1, 0), most + 1):
        if basis is None or leading is None:
            candidate = series[: degree + 1]
        else:
            candidate = _cosine_transform(_projected(basis[:, : degree + 1], leading, exact))[: degree + 1]
        if np.abs(np.polynomial.chebyshev.chebval(points, candidate) - exact).max() <= _TRUNCATION * largest:
            monomials = np.polynomial.chebyshev.cheb2poly(candidate)
            return (
                tuple(monomials.tolist()) if _rounding(monomials, candidate) <= _ROUNDING * largest else None
            )
    return None


def _projected(basis: np.ndarray, leading: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Values of ``sum_{l < k} leading_l P_l`` plus the best combination of the other columns."""
    kept, free = basis[:, : leading.size] @ leading, basis[:, leading.size :]
    return kept + free @ np.linalg.lstsq(free, exact - kept, rcond=None)[0] if free.shape[1] else kept


def _rounding(monomials: np.ndarray, series: np.ndarray) -> float:
    """Largest error of the float32 Horner sum against the float64 value of the same polynomial."""
    x = torch.cos(torch.linspace(0, math.pi, 4001, dtype=torch.float64, device="cpu")).float()
    exact = np.polynomial.chebyshev.chebval(x.double().numpy(), series)
    rounded = horner(torch.from_numpy(monomials).float().unbind(), True, x)
    return float(np.abs(rounded.double().numpy() - exact).max())
