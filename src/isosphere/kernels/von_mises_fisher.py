"""The von Mises–Fisher kernel: the exponential of the cosine."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels.zonal import ZonalKernel, check_kernel_dim
from isosphere.sphere import log_harmonic_dimensions, log_vmf_normalizer

__all__ = ["VonMisesFisherKernel"]


@dataclass(frozen=True)
class VonMisesFisherKernel(ZonalKernel):
    """Density of a von Mises–Fisher law around the other point, scaled to 1 at coincidence.

    ``phi(c) = exp(kappa (c - 1))``, ``a_l = I_{l+d/2-1}(kappa) / I_{d/2-1}(kappa)``; equal to
    ``exp(-kappa |x-y|^2 / 2)``, the Gaussian kernel. Positive on all of [-1, 1].

    Args:
        dim: ambient dimension d.
        concentration: kappa. Twice the t of Wang & Isola's uniformity.

    Raises:
        ValueError: dim < 2 or concentration not above 0.
    Numerics:
        Values in closed form at every d. ``log`` is ``kappa (c - 1)``, exact. Weights
        ``p_l = N(l, d) e^-kappa kappa^l / (d (d+2) ... (d+2l-2)) 0F1(; d/2+l; kappa^2/4)``, in log space.
    Reference:
        Mardia & Jupp, Directional Statistics, 2000, eq. 9.3.4; Wang & Isola, ICML 2020, eq. 7 (kappa = 2t).
    """

    dim: int
    concentration: float = 10.0

    def __post_init__(self) -> None:
        check_kernel_dim(self.dim)
        if not 0 < self.concentration < math.inf:
            raise ValueError(f"concentration must be a positive number, got {self.concentration}")
        object.__setattr__(self, "concentration", float(self.concentration))

    def log_weights(self) -> Tensor:
        return _log_weights(self.dim, self.concentration)

    def log(self, c: Tensor) -> Tensor:
        if not c.is_floating_point():
            raise TypeError(f"c must be a floating-point tensor of cosines, got {c.dtype}: use c.float()")
        c = c.float() if c.dtype in (torch.float16, torch.bfloat16) else c
        return self.concentration * (c - 1)


def log_exponential_weights(max_degree: int, dim: int, concentration: float) -> Tensor:
    """Log weights 0..L of ``exp(kappa (c - 1))``: all terms positive, each accurate relative to itself."""
    l = torch.arange(max_degree + 1, dtype=torch.float64)
    steps = torch.log(concentration / (dim + 2 * l[:-1]))
    rise = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(steps, 0)])
    series = torch.stack([log_vmf_normalizer(concentration, dim + 2 * k) for k in range(max_degree + 1)])
    return log_harmonic_dimensions(max_degree, dim) + rise + series - concentration


@lru_cache(maxsize=256)
def _log_weights(dim: int, concentration: float) -> Tensor:
    """Up to the degree whose tail is below 1e-24: the ratio of neighbouring terms decreases, so the tail is geometric."""
    size = 32
    while True:
        logs = log_exponential_weights(size, dim, concentration)
        ratio = torch.exp(logs[1:] - logs[:-1])
        tail = logs[1:-1] - torch.log1p(-ratio[1:].clamp(max=1))
        good = (ratio[1:] < 1) & (tail <= math.log(1e-24))
        if bool(good.any()):
            return logs[: int(torch.nonzero(good)[0]) + 1]
        size *= 2
