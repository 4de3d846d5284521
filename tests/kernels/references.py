"""Slow, independent values of the kernels, in mpmath."""

import math

import mpmath as mp


def dimension(degree: int, dim: int):
    """N(l, d) by binomials."""
    below = math.comb(degree + dim - 3, dim - 1) if degree >= 2 else 0
    return mp.mpf(math.comb(degree + dim - 1, dim - 1) - below)


def polynomials(t, max_degree: int, dim: int) -> list:
    """P_0(t), ..., P_L(t) at the working precision."""
    values = [mp.mpf(1), mp.mpf(t)]
    for l in range(1, max_degree):
        values.append(((2 * l + dim - 2) * values[1] * values[l] - l * values[l - 1]) / (l + dim - 2))
    return values[: max_degree + 1]


def at_one(degree: int, dim: int, order: int):
    """P_l^(m)(1) by Pochhammer symbols."""
    return (
        mp.rf(-degree, order)
        * mp.rf(degree + dim - 2, order)
        / mp.rf(mp.mpf(dim - 1) / 2, order)
        / mp.mpf(-2) ** order
    )


def heat_terms(dim: int, time: float) -> list:
    """a_l N(l, d) down to the working precision."""
    terms = [mp.mpf(1)]
    while len(terms) < 3 or terms[-1] > terms[-2] or terms[-1] > mp.eps * mp.mpf(10) ** -5 * max(terms):
        l = len(terms)
        terms.append(mp.exp(-mp.mpf(time) * l * (l + dim - 2)) * dimension(l, dim))
    return terms


def series(terms: list, c: float, dim: int, order: int = 0):
    """``sum_l terms_l P_l^(m)(c) / sum_l terms_l``."""
    values = polynomials(mp.mpf(c), max(len(terms) - 1 - order, 0), dim + 2 * order)
    total = mp.mpf(0)
    for l in range(order, len(terms)):
        total += terms[l] * at_one(l, dim, order) * values[l - order]
    return total / mp.fsum(terms)
