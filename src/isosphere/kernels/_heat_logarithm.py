"""Logarithm of the heat kernel and its derivatives, by integer sums of as many bits as the answer needs.

At antipodal points the terms of the series are e^{2 rho} times their sum (1e60 at d = 512, t = 2/d), so no
float will do. Python's integers will (faster than its decimals): fixed-point numbers with exact additions and
one rounding for a product, at a few dozen points, enough for a fit.
"""

import decimal
import math
from fractions import Fraction
from functools import lru_cache

__all__ = ["log_heat_derivatives"]

_OWN_BITS = 150  # precision that every sum is to have of its own
_MOST_WORK = 8e6  # bits times terms: seconds a fit


def log_heat_derivatives(points: list[Fraction], dim: int, time: float, order: int) -> list[float]:
    """The order-th derivative of ``log phi`` at rational points, correct to the last place or two of a float.

    Raises:
        ValueError: it would take minutes (in low dimension: a time below about 6e-4).
    """
    bits = _working_bits(dim, time, order)
    series = [_terms(dim, time, m, bits) for m in range(order + 1)]
    values = {}
    # phi and its derivatives increase: what one point has too much of, the points above it have too.
    for point in sorted(set(points)):
        x = (point.numerator << bits) // point.denominator
        sums = [_gegenbauer_sum(x, terms, dim + 2 * m, bits) for m, terms in enumerate(series)]
        values[point] = _log_derivative(sums, order) if order else _log_ratio(sums[0], sum(series[0]))
        spare = min(_own_bits(s, terms, dim, bits) for s, terms in zip(sums, series, strict=True)) - _OWN_BITS
        if spare > 0:
            bits -= spare
            series = [_shortened(terms, spare) for terms in series]
    return [values[point] for point in points]


def _shortened(terms: tuple[int, ...], spare: int) -> tuple[int, ...]:
    shifted = [term >> spare for term in terms]
    last = max((l for l, term in enumerate(shifted) if term), default=0)
    return tuple(shifted[: last + 1])


def _own_bits(value: int, terms: tuple[int, ...], dim: int, bits: int) -> int:
    """Bits of a sum above the rounding of its terms, of the recurrence and of the exponentials."""
    noise = max(max(terms).bit_length() - bits, 0) + 4 * len(terms).bit_length() + 2 * dim.bit_length()
    return value.bit_length() - noise if value > 0 else 0


@lru_cache(maxsize=64)
def _working_bits(dim: int, time: float, order: int) -> int:
    """Bits at which the sums at c = -1, where they are smallest, have enough of their own."""
    bits = 256
    while True:
        series = [_terms(dim, time, m, bits) for m in range(order + 1)]
        lows = [sum(term if l % 2 == 0 else -term for l, term in enumerate(terms)) for terms in series]
        own = min(_own_bits(low, terms, dim, bits) for low, terms in zip(lows, series, strict=True))
        if own > 10:  # enough to know how many are missing, or too many
            return bits + _OWN_BITS + 20 - own
        if bits * len(series[0]) > _MOST_WORK:
            raise ValueError(
                f"HeatKernel({dim}, time={time:g}) is too sharp for a logarithm at antipodal points: raise "
                f"the time, or take its limit at small angles, VonMisesFisherKernel({dim}, {1 / (2 * time):.4g})"
            )
        bits *= 2


@lru_cache(maxsize=64)
def _terms(dim: int, time: float, order: int, bits: int) -> tuple[int, ...]:
    """``a_l N(l, d) P_l^(m)(1)`` for l = m, m + 1, ... in fixed point, until they vanish."""
    with decimal.localcontext() as context:
        context.prec = bits * 302 // 1000 + 30
        exact = decimal.Decimal(time)  # a float is an exact binary fraction
        step = int((-exact * (dim - 1)).exp() * (1 << bits))
        quotient = int((-exact * 2).exp() * (1 << bits))
    terms: list[int] = []
    value, l = 1 << bits, 0
    while value or l <= order + 1:
        if l >= order:
            at_one = math.prod(Fraction((l - j) * (l + dim - 2 + j), dim - 1 + 2 * j) for j in range(order))
            terms.append(value * at_one.numerator // at_one.denominator)
        # The ratio is e^{-(2l+d-1) t} (2l+d)(l+d-2) / ((2l+d-2)(l+1)); for d = 2, l = 0 it is 2 e^{-t}.
        above, below = ((2 * l + dim) * (l + dim - 2), (2 * l + dim - 2) * (l + 1)) if l + dim > 2 else (2, 1)
        value = (value * step >> bits) * above // below
        step = step * quotient >> bits
        l += 1
    return tuple(terms)


def _gegenbauer_sum(x: int, terms: tuple[int, ...], dim: int, bits: int) -> int:
    """``sum_l terms[l] P_l(x)`` in fixed point, by the recurrence."""
    before, now = 1 << bits, x
    total = (terms[0] << bits) + (terms[1] * x if len(terms) > 1 else 0)
    for l, term in enumerate(terms[2:], start=1):
        before, now = now, ((2 * l + dim - 2) * (x * now >> bits) - l * before) // (l + dim - 2)
        total += term * now
    return total >> bits


def _log_ratio(value: int, top: int) -> float:
    """log(value / top), the power of two apart: a value near top keeps the digits of its difference."""
    power = value.bit_length() - top.bit_length()
    scaled = Fraction(value << max(-power, 0), top << max(power, 0))  # in (1/2, 2)
    if scaled > Fraction(4, 3):
        scaled, power = scaled / 2, power + 1
    return math.log1p(float(scaled - 1)) + power * math.log(2)


def _log_derivative(sums: list[int], order: int) -> float:
    """Derivative of log f: ``l_n = R_n - sum_k C(n-1, k-1) l_k R_{n-k}`` with ``R_n = f^(n) / f``.

    In fixed point of twice the needed bits, because from the second on they are small differences.
    """
    bits = 2 * _OWN_BITS
    ratio = [(s << bits) // sums[0] for s in sums]
    logs = [0]
    for n in range(1, order + 1):
        rest = sum(math.comb(n - 1, k - 1) * logs[k] * ratio[n - k] for k in range(1, n))
        logs.append(ratio[n] - (rest >> bits))
    return logs[order] / (1 << bits)
