"""The heat kernel of the sphere: the law of Brownian motion after some time."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from isosphere.kernels._approximate import Profile
from isosphere.kernels._heat_logarithm import log_heat_derivatives
from isosphere.kernels._zonal import MOST_DEGREES, ZonalKernel, cut_geometric_tail
from isosphere.sphere import check_dim, log_harmonic_dimensions

__all__ = ["HeatKernel"]

_CONCENTRATION = 1.76
_LEAST_CONCENTRATION = 1e-12


@dataclass(frozen=True, init=False)
class HeatKernel(ZonalKernel):
    """Heat kernel ``e^{t Laplacian}``, the density of Brownian motion at time t, scaled to 1 at coincidence.

    ``phi(c) = (1/Z) sum_l exp(-t l (l+d-2)) N(l, d) P_l(c)``; positive on all of [-1, 1].

    Args:
        dim: ambient dimension d.
        concentration: ``rho = d exp(-(d-1) t)``, the weight of degree 1 against degree 0, so ``t =
            log(d/rho)/(d-1)``. For large d, ``phi(c) ~ exp(rho (c - 1))``. Default 1.76: the papers' t = 5/d
            at d = 256.
        time: t itself, in place of a concentration. The generator is the Laplacian, not half of it.

    Scale:
        ``exp(-log_mean) = Z``; Z = 5.520 at d = 256, t = 5/d, and 7.72e12 at t = 2/d.
    Raises:
        ValueError: both concentration and time given; a concentration outside [1e-12, d); a time that is not
            a positive number, is so long that phi is a constant, or so short that it needs 20,000 degrees.
    Numerics:
        d from 2 to 4096. A fixed t means nothing across dimensions (at d = 512, t = 0.1 is a constant and
        t = 1/d an identity matrix): prefer a concentration. ``log`` is exact to rounding, relative to itself,
        also at antipodal points where phi is 1e-60: it is fitted to sums in integers. That takes
        milliseconds, or seconds for a time below 0.01 in low dimension, once per kernel and process; below
        about 6e-4 it is refused.
    Reference:
        arXiv 2606.17603 (its w(lambda) = exp(-t lambda); t = 5/d for MMD and KSD, 2/d for KL).

    Example:
        >>> kernel = HeatKernel(256)
        >>> kernel(torch.tensor([1.0, 0.0, -1.0]))
        tensor([1.0000, 0.1799, 0.0294])
        >>> round(HeatKernel(256, time=5 / 256).concentration, 2)
        1.76
    """

    dim: int
    time: float

    def __init__(self, dim: int, *, concentration: float | None = None, time: float | None = None) -> None:
        check_dim(dim)
        if time is not None and concentration is not None:
            raise ValueError(
                f"got both a concentration and a time: give one, e.g. HeatKernel({dim}, time={time})"
            )
        if time is None:
            rho = _CONCENTRATION if concentration is None else float(concentration)
            if not _LEAST_CONCENTRATION <= rho < dim:
                raise ValueError(
                    f"concentration must lie in [1e-12, dim = {dim}), got {rho}: the papers' is 1.76"
                )
            time = math.log(dim / rho) / (dim - 1)
        longest = math.log(dim / _LEAST_CONCENTRATION) / (dim - 1)
        if not 0 < time <= longest * (1 + 1e-9):
            raise ValueError(
                f"time must be positive and at most {longest:.4g} at dim {dim} (a constant kernel), "
                f"got {time}: the papers' is 5/dim = {5 / dim:.4g}"
            )
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "time", float(time))

    @property
    def concentration(self) -> float:
        """``rho = d exp(-(d-1) t)``."""
        return self.dim * math.exp(-(self.dim - 1) * self.time)

    @property
    def is_positive(self) -> bool:
        return True

    def log_weights(self) -> Tensor:
        size = 64
        while size <= MOST_DEGREES:
            l = torch.arange(size + 1, dtype=torch.float64, device="cpu")
            # Ratios of neighbouring terms decrease in l: see cut_geometric_tail.
            kept = cut_geometric_tail(
                log_harmonic_dimensions(size, self.dim) - self.time * l * (l + self.dim - 2)
            )
            if kept is not None:
                return kept - torch.logsumexp(kept, 0)
            size *= 2
        raise ValueError(
            f"{self!r} needs more than {MOST_DEGREES} degrees, it is close to an identity matrix: "
            f"raise the time, e.g. to the papers' 5/dim = {5 / self.dim:.4g}"
        )

    def log_profile(self) -> Profile:
        """The exact logarithm, relative to itself also where phi is 1e-60."""

        def samples(c: Tensor, order: int) -> Tensor:
            return self._exact([Fraction(v) for v in c.tolist()], order)

        def samples_near(x: Tensor, order: int) -> Tensor:
            return self._exact([2 * Fraction(v) ** 2 - 1 for v in x.tolist()], order)

        # Where the Gaussians of angle from the two sides of the antipode meet, times the ways round it.
        width = min(1.0, self.time * max(1.0, self.dim / 4) / 2)
        return Profile(self.dim, samples, width=width, samples_near=samples_near)

    def _exact(self, points: list[Fraction], order: int) -> Tensor:
        values = log_heat_derivatives(points, self.dim, self.time, order)
        return torch.tensor(values, dtype=torch.float64, device="cpu")
