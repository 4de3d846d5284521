"""Frequencies under a Gaussian window: what a sliced test becomes with an exact integral."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.kernels._von_mises_fisher import exponential_log_ratios
from isosphere.kernels._zonal import MOST_DEGREES, ZonalKernel, log_tail
from isosphere.sphere import check_dim, marginal_quadrature

__all__ = ["GaussianWindowKernel"]

_WIDEST = 2000.0
_TAIL = 1e-18  # mass of the weights beyond the last degree


@dataclass(frozen=True)
class GaussianWindowKernel(ZonalKernel):
    """Mean of ``cos(s <x - y, a>)`` over directions a and over frequencies s with a Gaussian density.

    ``phi(c) = 1F1(1/2; d/2; -g^2 (1 - c))``; ``p_l`` is a mixture of von Mises–Fisher weights. Positive on all of
    [-1, 1]. What :func:`~isosphere.kernels.InducedKernel` is without a rule.

    Args:
        dim: ambient dimension d.
        bandwidth: g on unit vectors; None is sqrt(d), at which projections have variance 1. (The window is
            ``exp(-s^2 / (2 g^2))`` over the whole line.)

    Raises:
        ValueError: dim < 2, or a bandwidth outside (0, 2000].
    Numerics:
        Weights are sums of positive terms, cut where a bound of the tail proves the rest below 1e-18.
    Reference:
        arXiv 2606.17603 (the kernel induced by SUSReg); DLMF 13.2.2 (1F1).

    Example:
        >>> kernel = GaussianWindowKernel(64)
        >>> kernel.bandwidth
        8.0
        >>> kernel(torch.tensor([1.0, 0.0]))
        tensor([1.0000, 0.5743])
    """

    dim: int
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        check_dim(self.dim)
        bandwidth = math.sqrt(self.dim) if self.bandwidth is None else float(self.bandwidth)
        if not 0 < bandwidth <= _WIDEST:
            raise ValueError(
                f"bandwidth must lie in (0, {_WIDEST:g}], got {bandwidth}: sqrt(dim) is the default"
            )
        object.__setattr__(self, "bandwidth", bandwidth)

    @property
    def is_positive(self) -> bool:
        return True

    def log_weights(self) -> Tensor:
        return _window_log_weights(self.dim, self.bandwidth or math.sqrt(self.dim))


def _window_log_weights(dim: int, bandwidth: float) -> Tensor:
    """Mixture ``phi(c) = E_t exp(g^2 t^2 (c - 1))`` of exponentials over the law of one coordinate t.

    (Average the Gaussian over s first: E_a exp(-g^2 <x-y, a>^2 / 2), and <x-y, a> = |x-y| t.)
    """
    log_mass, t = _half_law(dim, bandwidth)
    size = 64
    while size <= MOST_DEGREES:
        logs = exponential_log_ratios(size, dim, (bandwidth * t) ** 2)
        logs = log_mass.unsqueeze(-1) + logs - torch.logsumexp(logs, 1, keepdim=True)
        # A component's tail is never above its mass. (Dividing by the sum so far, which is at most the whole, can
        # only raise the bound.)
        tail = torch.minimum(log_tail(logs), log_mass.unsqueeze(-1))
        proven = torch.logsumexp(tail, 0) <= math.log(_TAIL)
        if bool(proven.any()):
            mixed = torch.logsumexp(logs, 0)[: int(torch.nonzero(proven)[0]) + 1]
            return mixed - torch.logsumexp(mixed, 0)
        size *= 2
    raise ValueError(
        f"GaussianWindowKernel({dim}, bandwidth={bandwidth:g}) needs more than {MOST_DEGREES} degrees: lower it"
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
