"""Logarithm of the heat kernel and its derivatives, from sums in integers of as many bits as the answer needs.

At antipodal points the terms of the series are up to e^{2 rho} times their sum (1e60 at d = 512, t = 2/d), so no float
will do. Python integers will: fixed-point numbers with `bits` binary places, exact additions, one rounding a product.
"""

import decimal
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["LogHeatProfile"]


@dataclass(frozen=True)
class LogHeatProfile:
    """``log phi`` of the heat kernel as a profile; the order-th sample is its order-th derivative."""

    dim: int
    time: float

    def samples(self, c: Tensor, order: int) -> Tensor:
        bits = _working_bits(self.dim, self.time, order)
        series = [_terms(self.dim, self.time, m, bits) for m in range(order + 1)]
        top = sum(series[0])
        values = []
        for point in c.tolist():
            x = int(Fraction(point) * (1 << bits))
            sums = [_gegenbauer(x, terms, self.dim + 2 * m, bits) for m, terms in enumerate(series)]
            values.append(_log_ratio(sums[0], top) if order == 0 else _log_derivative(sums, order))
        return torch.tensor(values, dtype=torch.float64)


@lru_cache(maxsize=64)
def _working_bits(dim: int, time: float, order: int) -> int:
    """Bits at which the smallest sums, those at c = -1, keep 100 bits of their own."""
    bits = 256
    while True:
        enough = True
        for m in range(order + 1):
            terms = _terms(dim, time, m, bits)
            low = sum(t if l % 2 == 0 else -t for l, t in enumerate(terms))
            guard = (
                100
                + 4 * max(len(terms), 2).bit_length()
                + 2 * dim.bit_length()
                + max(terms).bit_length()
                - bits
            )
            enough = enough and low.bit_length() >= guard
        if enough:
            return bits
        bits = 2 * bits


@lru_cache(maxsize=64)
def _terms(dim: int, time: float, order: int, bits: int) -> list[int]:
    """``a_l N(l, d) P_l^(m)(1)`` for l = m, m + 1, ... in fixed point, until they vanish at this many bits."""
    unit = 1 << bits
    with decimal.localcontext() as context:
        context.prec = int(bits * 0.302) + 30
        context.Emin, context.Emax = decimal.MIN_EMIN, decimal.MAX_EMAX
        exact = decimal.Decimal(time)  # a float is an exact binary fraction
        step = int((-exact * (dim - 1)).exp() * unit)
        quotient = int((-exact * 2).exp() * unit)
    terms, value, l = [], unit, 0
    peak = 0
    while True:
        factor = Fraction(1)
        for j in range(order):
            factor *= Fraction((l - j) * (l + dim - 2 + j), dim - 1 + 2 * j)
        if l >= order:
            term = value * factor.numerator // factor.denominator
            terms.append(term)
            peak = max(peak, term)
            if term == 0 or (term < peak and value == 0):
                return terms
        # a_{l+1} N_{l+1} / (a_l N_l) = e^{-(2l+d-1) t} (2l+d)(l+d-2) / ((2l+d-2)(l+1)), for d = 2, l = 0: 2 e^{-t}
        above, below = ((2 * l + dim) * (l + dim - 2), (2 * l + dim - 2) * (l + 1)) if l + dim > 2 else (2, 1)
        value = (value * step >> bits) * above // below
        step = step * quotient >> bits
        l += 1


def _gegenbauer(x: int, terms: list[int], dim: int, bits: int) -> int:
    """``sum_l terms[l] P_l(x)`` in fixed point, by the recurrence."""
    before, now = 0, 1 << bits
    total = terms[0] << bits
    for l in range(len(terms) - 1):
        after = x if l == 0 else ((2 * l + dim - 2) * (x * now >> bits) - l * before) // (l + dim - 2)
        before, now = now, after
        total += terms[l + 1] * now
    return total >> bits


def _log_ratio(value: int, top: int) -> float:
    """log(value / top): the exponent apart, so that a value near top keeps the digits of its difference."""
    exponent = value.bit_length() - top.bit_length()
    shifted = Fraction(value, top) / Fraction(2) ** exponent
    return math.log1p(float(shifted - 1)) + exponent * math.log(2)


def _log_derivative(sums: list[int], order: int) -> float:
    """Derivative of log f from f, f', ..., by ``l_n = R_n - sum_k C(n-1, k-1) l_k R_{n-k}``, ``R_k = f^(k) / f``."""
    ratio = [Fraction(s, sums[0]) for s in sums]
    logs: list[Fraction] = [Fraction(0)]
    for n in range(1, order + 1):
        logs.append(ratio[n] - sum(math.comb(n - 1, k - 1) * logs[k] * ratio[n - k] for k in range(1, n)))
    return float(logs[order])
