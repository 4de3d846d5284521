"""Frequencies of a quadrature rule: what a sliced test with that rule becomes, exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels._approximate import constant_when_compiled
from isosphere.kernels._zonal import MOST_DEGREES, ZonalKernel, log_tail
from isosphere.sphere import check_dim, log_harmonic_dimensions

__all__ = ["QuadratureRuleKernel"]

_TAIL = 1e-18  # mass of the weights beyond the last degree


@dataclass(frozen=True, init=False)
class QuadratureRuleKernel(ZonalKernel):
    """Mean of ``cos(s <x - y, a>)`` over directions a and over the frequencies of a rule.

    ``phi(c) = sum_k w_k 0F1(; d/2; -s_k^2 |x - y|^2 / 4) / sum_k w_k`` with ``|x - y|^2 = 2 - 2c``; ``p_l`` is a sum
    of squared Bessel functions.
    What :func:`~isosphere.kernels.InducedKernel` is with a rule, and what SUSReg is on average.

    Args:
        dim: ambient dimension d.
        knots: frequencies s_k on unit vectors. SUSReg scales projections by sqrt(d): then s_k = sqrt(d) knot_k.
        weights: nonnegative weights w_k of any sum, one per knot.

    Raises:
        ValueError: dim < 2, lengths that differ, a negative weight, a rule that sees only frequency 0, a frequency
            that needs more than 20,000 degrees.
    Numerics:
        Squared Bessel functions from a downward recurrence, cut where a bound of the tail proves the rest below
        1e-18. A rule can make phi negative (a sum of few cosines at d = 2): then ``log`` refuses.
    Reference:
        arXiv 2606.17603 (the kernel induced by SUSReg); DLMF 10.16.9 (0F1).

    Example:
        >>> kernel = QuadratureRuleKernel(64, knots=[0.0, 5.0, 10.0], weights=[0.5, 0.8, 0.2])
        >>> kernel.is_positive, round(kernel.mean, 4)
        (True, 0.7212)
    """

    dim: int
    knots: tuple[float, ...]
    knot_weights: tuple[float, ...]

    def __init__(self, dim: int, knots: Sequence[float] | Tensor, weights: Sequence[float] | Tensor) -> None:
        check_dim(dim)
        frequencies, shares = _checked_rule(knots, weights)
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "knots", frequencies)
        object.__setattr__(self, "knot_weights", shares)

    @property
    def is_positive(self) -> bool:
        return _is_positive(self)

    def log_weights(self) -> Tensor:
        return _rule_log_weights(self.dim, self.knots, self.knot_weights)


def _checked_rule(
    knots: Sequence[float] | Tensor, weights: Sequence[float] | Tensor
) -> tuple[tuple[float, ...], ...]:
    """The rule as nonnegative frequencies, each once, ascending, without those of weight 0, of sum 1."""
    s, w = ([float(v) for v in (x.tolist() if isinstance(x, Tensor) else x)] for x in (knots, weights))
    if len(s) != len(w) or not s:
        raise ValueError(f"knots and weights must have one length of at least 1, got {len(s)} and {len(w)}")
    if any(not 0 <= v < math.inf for v in w) or any(not math.isfinite(v) for v in s):
        raise ValueError(
            f"knots must be finite and weights finite and nonnegative, got knots {s} and weights {w}"
        )
    joined: dict[float, float] = {}
    for v, u in zip(s, w, strict=True):
        joined[abs(v)] = joined.get(abs(v), 0.0) + u
    if not any(v > 0 and u > 0 for v, u in joined.items()):
        raise ValueError(
            "the rule sees only frequency 0, so its kernel is a constant: give another knot some weight"
        )
    total = math.fsum(joined.values())
    kept = sorted(v for v, u in joined.items() if u > 0)
    return tuple(kept), tuple(joined[v] / total for v in kept)


@constant_when_compiled
def _is_positive(kernel: QuadratureRuleKernel) -> bool:
    return _is_positive_on_a_grid(kernel)


@lru_cache(maxsize=64)
def _is_positive_on_a_grid(kernel: QuadratureRuleKernel) -> bool:
    """On a grid so fine that the largest slope cannot take the kernel to 0 between two points."""
    c = torch.linspace(-1, 1, 4097, dtype=torch.float64, device="cpu")
    slope = float(kernel.derivative(c).abs().max())
    return bool(kernel(c).min() > slope * (2 / 4096))


def _rule_log_weights(dim: int, knots: tuple[float, ...], weights: tuple[float, ...]) -> Tensor:
    """``p_l = sum_k w_k x_l(s_k)^2`` with ``x_l = sqrt(N(l, d)) Gamma(d/2) (2/s)^(d/2-1) J_{l+d/2-1}(s)``.

    The recurrence ``J_{v-1} = (2v/s) J_v - J_{v+1}`` is stable downwards, and ``sum_l x_l^2 = 1`` (the
    plane wave has modulus 1) fixes the scale: no Bessel function is ever evaluated.
    """
    s = torch.tensor(knots, dtype=torch.float64, device="cpu")
    w = torch.tensor(weights, dtype=torch.float64, device="cpu")
    last = _last_degree(dim, knots[-1])
    top = last + 60  # Miller's start: what is wrong there has died out at `last`
    log_n = log_harmonic_dimensions(top + 1, dim)
    half = torch.exp((log_n[:-1] - log_n[1:]) / 2)  # sqrt(N_l / N_{l+1})
    moving = s > 0
    table = torch.zeros(s.numel(), top + 1, dtype=torch.float64, device="cpu")
    table[~moving, 0] = 1
    v = s[moving]
    after, now = torch.zeros_like(v), torch.ones_like(v)
    squares = torch.zeros(v.numel(), top + 1, dtype=torch.float64, device="cpu")
    scale = torch.zeros_like(v)  # logarithm by which the stored squares of a knot were divided so far
    log_squares = torch.full_like(squares, -math.inf)
    for l in range(top, -1, -1):
        log_squares[:, l] = 2 * torch.log(now.abs()) + 2 * scale
        if l:
            before = half[l - 1] * ((2 * l + dim - 2) / v * now - half[l] * after)
            size = torch.maximum(before.abs(), now.abs())
            after, now, scale = now / size, before / size, scale + torch.log(size)
    table[moving] = torch.exp(log_squares - torch.logsumexp(log_squares, 1, keepdim=True))
    return torch.log(w @ table)[: last + 1]


def _last_degree(dim: int, s: float) -> int:
    """First degree with a tail proven small: ``x_l^2 <= N(l, d) (s^l / (d (d+2) ... (d+2l-2)))^2``."""
    size = 64
    while size <= MOST_DEGREES:
        l = torch.arange(size, dtype=torch.float64, device="cpu")
        rise = torch.cat(
            [torch.zeros(1, dtype=torch.float64, device="cpu"), torch.log(s / (dim + 2 * l)).cumsum(0)]
        )
        bound = log_harmonic_dimensions(size, dim) + 2 * rise
        proven = log_tail(bound) <= math.log(_TAIL)
        if bool(proven.any()):
            return int(torch.nonzero(proven)[0])
        size *= 2
    raise ValueError(
        f"a knot of {s:g} needs more than {MOST_DEGREES} degrees at dim {dim}: lower the reach or scale"
    )
