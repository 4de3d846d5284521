"""Logarithm of the heat kernel and its derivatives, by integer sums of as many bits as the answer needs.

At antipodal points the terms of the series are e^{2 rho} times their sum (1e60 at d = 512, t = 2/d), so no
float will do. Python's integers will: fixed-point numbers of `bits` binary places, exact additions, one
rounding for a product. A few dozen points are enough for a fit.
"""

import decimal
import math
from fractions import Fraction
from functools import lru_cache

__all__ = ["log_heat_derivatives"]

_OWN_BITS = 160  # precision that the smallest sum is to have of its own
_MOST_BITS = 1 << 15


def log_heat_derivatives(points: list[Fraction], dim: int, time: float, order: int) -> list[float]:
    """The order-th derivative of ``log phi`` at rational points, correct to their last place or two.

    Raises:
        ValueError: the kernel falls below e^-20000 of its value at coincidence.
    """
    bits = _working_bits(dim, time, order)
    series = [_terms(dim, time, m, bits) for m in range(order + 1)]
    top = sum(series[0])
    values = []
    for point in points:
        x = (point.numerator << bits) // point.denominator
        sums = [_gegenbauer_sum(x, terms, dim + 2 * m, bits) for m, terms in enumerate(series)]
        values.append(_log_derivative(sums, order) if order else _log_ratio(sums[0], top))
    return values


@lru_cache(maxsize=64)
def _working_bits(dim: int, time: float, order: int) -> int:
    """Bits at which the sums at c = -1, where they are smallest, keep enough of their own."""
    bits = 256
    while bits <= _MOST_BITS:
        series = [_terms(dim, time, m, bits) for m in range(order + 1)]
        if all(_own_bits(terms, dim, bits) >= _OWN_BITS for terms in series):
            return bits
        bits *= 2
    raise ValueError(
        f"HeatKernel({dim}, time={time:g}) is too sharp for a logarithm at antipodal points: raise the time, "
        f"or use VonMisesFisherKernel({dim}, concentration={1 / (2 * time):.4g}), its limit at small angles"
    )


def _own_bits(terms: list[int], dim: int, bits: int) -> int:
    """Bits of the sum at c = -1 above the rounding of its terms, the recurrence and the exponentials."""
    low = sum(term if l % 2 == 0 else -term for l, term in enumerate(terms))
    noise = max(max(terms).bit_length() - bits, 0) + 4 * len(terms).bit_length() + 2 * dim.bit_length()
    return low.bit_length() - noise if low > 0 else 0


@lru_cache(maxsize=64)
def _terms(dim: int, time: float, order: int, bits: int) -> list[int]:
    """``a_l N(l, d) P_l^(m)(1)`` for l = m, m + 1, ... in fixed point, until they vanish."""
    with decimal.localcontext() as context:
        context.prec = bits * 302 // 1000 + 30
        exact = decimal.Decimal(time)  # a float is an exact binary fraction
        step = int((-exact * (dim - 1)).exp() * (1 << bits))
        quotient = int((-exact * 2).exp() * (1 << bits))
    terms: list[int] = []
    value, l = 1 << bits, 0
    while value or l <= order:
        if l >= order:
            at_one = Fraction(1)
            for j in range(order):
                at_one *= Fraction((l - j) * (l + dim - 2 + j), dim - 1 + 2 * j)
            terms.append(value * at_one.numerator // at_one.denominator)
        # a_{l+1} N_{l+1} / (a_l N_l) = e^{-(2l+d-1) t} (2l+d)(l+d-2) / ((2l+d-2)(l+1)); for d = 2, l = 0: 2
        # e^{-t}
        above, below = ((2 * l + dim) * (l + dim - 2), (2 * l + dim - 2) * (l + 1)) if l + dim > 2 else (2, 1)
        value = (value * step >> bits) * above // below
        step = step * quotient >> bits
        l += 1
    return terms


def _gegenbauer_sum(x: int, terms: list[int], dim: int, bits: int) -> int:
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
    scaled = Fraction(value << max(-power, 0), top << max(power, 0))
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
