"""The kernel that a sliced statistic becomes when it is averaged over all directions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels._von_mises_fisher import exponential_log_ratios
from isosphere.kernels._zonal import ZonalKernel
from isosphere.sphere import check_dim, log_harmonic_dimensions, marginal_quadrature

__all__ = ["InducedKernel"]

_WIDEST = 2000.0
_TAIL = 1e-18  # mass of the weights beyond the last degree
_MOST_DEGREES = 20_000


@dataclass(frozen=True, init=False)
class InducedKernel(ZonalKernel):
    """Mean of ``cos(s <x - y, a>)`` over directions a and frequencies s, scaled to 1 at coincidence.

    By a Gaussian window of bandwidth g: ``phi(c) = 1F1(1/2; d/2; -g^2 (1 - c))``.
    By a rule: ``phi(c) = sum_k w_k 0F1(; d/2; -s_k^2 |x - y|^2 / 4) / sum_k w_k`` with
    ``|x - y|^2 = 2 - 2c``.

    A statistic ``n sum_k w_k |ecf(s_k) - cf(s_k)|^2`` of the projections, averaged over all directions, is
    exactly ``n sum(w) (1 - p_0)`` times the MMD (scaled to 1 at collapse) of the kernel of the same rule.

    Args:
        dim: ambient dimension d.
        bandwidth: g on unit vectors; None is sqrt(d), at which projections have variance 1. (The window is
            ``exp(-s^2 / (2 g^2))`` over the whole line.)
        knots: frequencies s_k on unit vectors. SUSReg scales projections by sqrt(d): then s_k = sqrt(d)
        knot_k. weights: nonnegative weights w_k of any sum, one per knot.

    Raises:
        ValueError: a bandwidth together with a rule, half a rule, lengths that differ, a negative weight, a
            rule that sees only frequency 0, a bandwidth outside (0, 2000].
    Numerics:
        Weights are sums of positive terms: mixtures of von Mises–Fisher weights (window), squared Bessel
        functions from a downward recurrence (rule). Cut where a bound of the tail proves the rest below
        1e-18. A rule can make phi negative (a sum of few cosines at d = 2): then ``log`` refuses.
    Reference:
        arXiv 2606.17603 (the kernel induced by SUSReg); DLMF 13.2.2 (1F1), 10.16.9 (0F1).
    """

    dim: int
    bandwidth: float | None
    knots: tuple[float, ...] | None
    knot_weights: tuple[float, ...] | None

    def __init__(
        self,
        dim: int,
        *,
        bandwidth: float | None = None,
        knots: Sequence[float] | Tensor | None = None,
        weights: Sequence[float] | Tensor | None = None,
    ) -> None:
        check_dim(dim)
        rule = None if knots is None or weights is None else _checked_rule(knots, weights)
        if (knots is None) != (weights is None):
            raise ValueError("got half a rule: give both knots and weights, or a bandwidth, or neither")
        if rule is not None and bandwidth is not None:
            raise ValueError("got a bandwidth and a rule: give either bandwidth, or knots and weights")
        if rule is None:
            bandwidth = math.sqrt(dim) if bandwidth is None else float(bandwidth)
            if not 0 < bandwidth <= _WIDEST:
                raise ValueError(
                    f"bandwidth must lie in (0, {_WIDEST:g}], got {bandwidth}: sqrt(dim) is the default"
                )
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "bandwidth", bandwidth)
        object.__setattr__(self, "knots", rule[0] if rule else None)
        object.__setattr__(self, "knot_weights", rule[1] if rule else None)

    @property
    def is_positive(self) -> bool:
        if self.bandwidth is not None:
            return True
        return _rule_is_positive(self)

    def log_weights(self) -> Tensor:
        if self.knots is None or self.knot_weights is None:
            return _window_log_weights(self.dim, self.bandwidth or math.sqrt(self.dim))
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


@lru_cache(maxsize=64)
def _rule_is_positive(kernel: InducedKernel) -> bool:
    """On a grid so fine that the largest slope cannot take the kernel to 0 between two points."""
    c = torch.linspace(-1, 1, 4097, dtype=torch.float64, device="cpu")
    slope = float(kernel.derivative(c).abs().max())
    return bool(kernel(c).min() > slope * (2 / 4096))


def _window_log_weights(dim: int, bandwidth: float) -> Tensor:
    """Mixture ``phi(c) = E_t exp(g^2 t^2 (c - 1))`` of exponentials over the law of one coordinate t.

    (Average the Gaussian over s first: E_a exp(-g^2 <x-y, a>^2 / 2), and <x-y, a> = |x-y| t.)
    """
    log_mass, t = _half_law(dim, bandwidth)
    size = 64
    while size <= _MOST_DEGREES:
        logs = exponential_log_ratios(size, dim, (bandwidth * t) ** 2)
        ratio = torch.exp(logs[:, 1:] - logs[:, :-1])
        logs = log_mass.unsqueeze(-1) + logs - torch.logsumexp(logs, 1, keepdim=True)
        # A component's tail is geometric once its ratios are below 1, and never above its mass. (Dividing by
        # the sum so far, which is at most the whole, can only raise the bound.)
        tail = logs[:, 1:-1] - torch.log1p(-ratio[:, 1:].clamp(max=1))
        tail = torch.minimum(tail, log_mass.unsqueeze(-1))
        proven = torch.logsumexp(tail, 0) <= math.log(_TAIL)
        if bool(proven.any()):
            mixed = torch.logsumexp(logs, 0)[: int(torch.nonzero(proven)[0]) + 1]
            return mixed - torch.logsumexp(mixed, 0)
        size *= 2
    raise ValueError(
        f"InducedKernel({dim}, bandwidth={bandwidth:g}) needs more than {_MOST_DEGREES} degrees: lower it"
    )


def _half_law(dim: int, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Log masses and points of |t|, t = sin(angle), on panels that double from the scale 1 / bandwidth."""
    x, w = marginal_quadrature(3, 24)  # Gauss–Legendre
    edges, step = [0.0], min(0.5 / bandwidth, 0.5 / math.sqrt(dim), 0.5)
    while edges[-1] < math.pi / 2:
        edges.append(min(math.pi / 2, edges[-1] + step))
        step = max(step, edges[-1])
    low = torch.tensor(edges[:-1], dtype=torch.float64, device="cpu").unsqueeze(-1)
    width = torch.tensor(edges[1:], dtype=torch.float64, device="cpu").unsqueeze(-1) - low
    angle = (low + width * (1 + x) / 2).reshape(-1)
    log_mass = torch.log(width * w).reshape(-1) + (dim - 2) * torch.log(torch.cos(angle))
    log_mass = log_mass - torch.logsumexp(log_mass, 0)
    used = log_mass > -100
    return log_mass[used], torch.sin(angle[used])


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
    while size <= _MOST_DEGREES:
        l = torch.arange(size, dtype=torch.float64, device="cpu")
        rise = torch.cat(
            [torch.zeros(1, dtype=torch.float64, device="cpu"), torch.log(s / (dim + 2 * l)).cumsum(0)]
        )
        bound = log_harmonic_dimensions(size, dim) + 2 * rise
        ratio = torch.exp(bound[1:] - bound[:-1])
        proven = (ratio[1:] < 1) & (bound[1:-1] - torch.log1p(-ratio[1:].clamp(max=1)) <= math.log(_TAIL))
        if bool(proven.any()):
            return int(torch.nonzero(proven)[0])
        size *= 2
    raise ValueError(
        f"a knot of {s:g} needs more than {_MOST_DEGREES} degrees at dim {dim}: lower the reach or scale"
    )
