"""The heat kernel of the sphere: the law of Brownian motion after some time."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels.evaluation import evaluate
from isosphere.kernels.heat_logarithm import LogHeatProfile
from isosphere.kernels.zonal import ZonalKernel, check_kernel_dim
from isosphere.sphere import log_harmonic_dimensions

__all__ = ["HeatKernel"]

_CONCENTRATION = 1.76
_LOG_TOLERANCE = math.log(1e-24)  # tail relative to phi(1); also small after weighting by eigenvalues squared
_MAX_DEGREE = 20_000


@dataclass(frozen=True, init=False)
class HeatKernel(ZonalKernel):
    """Heat kernel ``e^{t Laplacian}``, the density of Brownian motion at time t, scaled to 1 at coincidence.

    ``phi(c) = (1/Z) sum_l exp(-t l(l+d-2)) N(l, d) P_l(c)``; positive on all of [-1, 1].

    Args:
        dim: ambient dimension d.
        concentration: ``rho = a_1 N(1, d) = d exp(-(d-1) t)``, the weight of degree 1 against degree 0. For large d,
            ``phi(c) ~ exp(rho (c - 1))``. Default 1.76, the papers' t = 5/d at d = 256.
        time: t itself, instead of a concentration: ``t = log(d/rho)/(d-1)``.

    Raises:
        ValueError: both or neither sensible: concentration outside (0, d), time not above 0, or both given.
    Numerics:
        d from 2 to 4096. A fixed t means nothing across dimensions (t = 0.1 at d = 512 is a constant, t = 1/d an
        identity matrix): prefer a concentration. ``log`` is exact to rounding, also at antipodal points where phi is
        1e-60: it is fitted to values in integer arithmetic of as many bits as that takes.
    Reference:
        arXiv 2606.17603, section 3 (w(lambda) = exp(-t lambda), its default t = 5/d for MMD and KSD, 2/d for KL).
    """

    dim: int
    time: float

    def __init__(self, dim: int, *, concentration: float | None = None, time: float | None = None) -> None:
        check_kernel_dim(dim)
        if time is not None and concentration is not None:
            raise ValueError(
                "give either concentration or time, not both: HeatKernel(dim, concentration=1.76)"
            )
        if time is None:
            rho = _CONCENTRATION if concentration is None else float(concentration)
            if not 0 < rho < dim:
                raise ValueError(f"concentration must lie between 0 and dim = {dim}, got {rho}")
            time = math.log(dim / rho) / (dim - 1)
        if not 0 < time < math.inf:
            raise ValueError(
                f"time must be a positive number, got {time}: try HeatKernel({dim}, concentration=1.76)"
            )
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "time", float(time))

    @property
    def concentration(self) -> float:
        """``rho = d exp(-(d-1) t)``."""
        return self.dim * math.exp(-(self.dim - 1) * self.time)

    def log_weights(self) -> Tensor:
        return _log_weights(self.dim, self.time)

    def log(self, c: Tensor) -> Tensor:
        return evaluate(c, LogHeatProfile(self.dim, self.time), 0)


@lru_cache(maxsize=256)
def _log_weights(dim: int, time: float) -> Tensor:
    """Log weights up to the first degree whose tail is proven below the tolerance.

    The ratio r_l of neighbouring terms decreases in l and |P_l| <= 1, so the tail beyond L is at most
    term_{L+1} / (1 - r_{L+1}).
    """
    size = 64
    while size <= 2 * _MAX_DEGREE:
        l = torch.arange(size + 1, dtype=torch.float64)
        logs = log_harmonic_dimensions(size, dim) - time * l * (l + dim - 2)
        ratio = torch.exp(logs[1:] - logs[:-1])
        total = torch.logcumsumexp(logs, 0)
        tail = logs[1:-1] - torch.log1p(
            -ratio[1:].clamp(max=1)
        )  # at L = 0, 1, ...: term_{L+1} / (1 - r_{L+1})
        good = (ratio[1:] < 1) & (tail <= _LOG_TOLERANCE + total[:-2])
        if bool(good.any()):
            last = int(torch.nonzero(good)[0])
            return logs[: last + 1] - torch.logsumexp(logs[: last + 1], 0)
        size *= 2
    raise ValueError(
        f"time {time} needs more than {_MAX_DEGREE} degrees at dim {dim}: the kernel is close to an identity matrix; "
        f"raise it, e.g. HeatKernel({dim}, concentration=1.76)"
    )
