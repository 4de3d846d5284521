"""The kernel that SUSReg becomes when its statistic is averaged over all directions."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels.von_mises_fisher import log_exponential_weights
from isosphere.kernels.zonal import ZonalKernel, check_kernel_dim
from isosphere.sphere import log_harmonic_dimensions, marginal_cf, marginal_quadrature

__all__ = ["InducedKernel"]


@dataclass(frozen=True, init=False)
class InducedKernel(ZonalKernel):
    """Mean of ``cos(s <x - y, a>)`` over directions a and over frequencies s, scaled to 1 at coincidence.

    Gaussian window of bandwidth g: ``phi(c) = 1F1(1/2; d/2; -g^2 (1 - c))``.
    Rule (s_k, w_k): ``phi(c) = sum_k w_k 0F1(; d/2; -s_k^2 |x-y|^2 / 4) / sum_k w_k``, ``|x-y|^2 = 2 (1 - c)``.
    With the rule of a sliced statistic the mean of that statistic over all directions is an MMD of this kernel, exactly.

    Args:
        dim: ambient dimension d.
        bandwidth: g, on unit vectors. None is ``sqrt(d)``, at which projections have unit variance.
        knots: frequencies on unit vectors: a statistic that scales projections by sqrt(d) has ``s_k = sqrt(d) knot_k``.
        weights: their nonnegative weights, of any sum.

    Raises:
        ValueError: a bandwidth together with a rule, half a rule, lengths that differ, a negative weight.
    Numerics:
        Weights from positive terms in log space (window) or from squared Bessel functions (rule).
    Reference:
        arXiv 2606.17603, the kernel of SUSReg's average; DLMF 13.2.2 (1F1), 10.16.9 (0F1).
    """

    dim: int
    bandwidth: float | None
    knots: tuple[float, ...] | None
    rule: tuple[float, ...] | None

    def __init__(self, dim: int, *, bandwidth: float | None = None, knots=None, weights=None) -> None:  # noqa: ANN001
        check_kernel_dim(dim)
        if (knots is None) != (weights is None):
            raise ValueError("knots and weights belong together: give both or neither")
        if knots is not None and bandwidth is not None:
            raise ValueError("give either a bandwidth or knots and weights, not both")
        s = w = None
        if knots is not None:
            s, w = _floats(knots), _floats(weights)
            if len(s) != len(w) or not s:
                raise ValueError(
                    f"knots and weights must have one length of at least 1, got {len(s)} and {len(w)}"
                )
            if any(not v >= 0 or v == math.inf for v in w) or sum(w) <= 0:
                raise ValueError("weights must be finite, nonnegative and not all zero")
            if not any(v != 0 and u != 0 for u, v in zip(s, w, strict=True)):
                raise ValueError("the rule sees only frequency 0: give a knot other than 0 a positive weight")
        else:
            bandwidth = math.sqrt(dim) if bandwidth is None else float(bandwidth)
            if not 0 < bandwidth < math.inf:
                raise ValueError(f"bandwidth must be a positive number, got {bandwidth}")
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "bandwidth", bandwidth)
        object.__setattr__(self, "knots", s)
        object.__setattr__(self, "rule", w)

    def log_weights(self) -> Tensor:
        if self.bandwidth is not None:
            return _window_log_weights(self.dim, self.bandwidth)
        return _rule_log_weights(self.dim, self.knots or (), self.rule or ())


def _floats(values) -> tuple[float, ...]:  # noqa: ANN001
    return tuple(float(v) for v in (values.tolist() if isinstance(values, Tensor) else values))


_TAIL = 1e-15


@lru_cache(maxsize=64)
def _window_log_weights(dim: int, bandwidth: float) -> Tensor:
    """``phi = E_t exp(g^2 t^2 (c - 1))``: a mixture of exponential kernels over t with the marginal law."""
    nodes, mass = marginal_quadrature(dim, 64 + 2 * math.ceil(bandwidth))
    half = nodes.numel() // 2
    nodes, log_mass = nodes[half:], torch.log(2 * mass[half:])
    used = log_mass > -700
    nodes, log_mass = nodes[used], log_mass[used]
    size = 32
    while True:
        logs = torch.stack([log_exponential_weights(size, dim, float(bandwidth**2 * t * t)) for t in nodes])
        p = torch.logsumexp(log_mass[:, None] + logs, 0)
        if 1 - math.fsum(torch.exp(p).tolist()) <= _TAIL or size > 1000:
            return p
        size *= 2


@lru_cache(maxsize=64)
def _rule_log_weights(dim: int, knots: tuple[float, ...], weights: tuple[float, ...]) -> Tensor:
    """``a_l = sum_k w_k j_l(s_k)^2``, ``j_l(s) = s^l / (d (d+2) ... (d+2l-2)) 0F1(; d/2+l; -s^2/4)``."""
    s = torch.tensor(knots, dtype=torch.float64).abs()
    w = torch.tensor(weights, dtype=torch.float64)
    w = w / w.sum()
    keep = w > 0
    s, w = s[keep], w[keep]
    logs, log_rise = [], torch.zeros_like(s)
    dims = log_harmonic_dimensions(4096, dim)
    total = 0.0
    for l in range(4096):
        j = torch.exp(log_rise) * marginal_cf(s, dim + 2 * l)
        p = (
            math.exp(float(dims[l])) * float((w * j * j).sum())
            if l == 0
            else float(
                torch.exp(
                    torch.log(w) + 2 * log_rise + 2 * torch.log(marginal_cf(s, dim + 2 * l).abs()) + dims[l]
                ).sum()
            )
        )
        logs.append(math.log(p) if p > 0 else -math.inf)
        total += p
        log_rise = log_rise + torch.log(s / (dim + 2 * l))
        if 1 - total <= _TAIL:
            break
    return torch.tensor(logs, dtype=torch.float64)
