"""Positive kernels of a finite band: squares of polynomials, with a floor that keeps the logarithm finite."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels.evaluation import evaluate
from isosphere.kernels.fitting import Profile
from isosphere.kernels.zonal import ZonalKernel, require_positive
from isosphere.sphere import (
    gegenbauer_derivative_at_one,
    gegenbauer_sum,
    jacobi_off_diagonal,
    log_harmonic_dimensions,
)
from isosphere.sphere.harmonics import check_degree, check_dim

__all__ = ["FejerKernel", "JacksonKernel"]

_MOST_DEGREES = 400


@dataclass(frozen=True)
class _SquaredKernel(ZonalKernel):
    """``phi ∝ (1 - eps) q^2 / E q^2 + eps`` for a polynomial ``q = sum_l u_l P_l``, u_l >= 0, q(1) = 1."""

    dim: int
    max_degree: int = 2  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    floor: float = 0.01

    def __post_init__(self) -> None:
        check_dim(self.dim)
        check_degree(self.max_degree, "max_degree")
        if self.max_degree % 2 or not 2 <= self.max_degree <= _MOST_DEGREES:
            raise ValueError(
                f"max_degree is that of a square: even, 2 to {_MOST_DEGREES}; got {self.max_degree}: try 2"
            )
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor must lie in [0, 1), got {self.floor}: 0.01 is the default")
        object.__setattr__(self, "floor", float(self.floor))

    @abstractmethod
    def unscaled_root(self) -> Tensor:
        """Log coefficients of q, of degree max_degree / 2, up to a common factor."""

    def log_root(self) -> Tensor:
        """Log coefficients of q, with q(1) = 1."""
        logs = self.unscaled_root()
        return logs - torch.logsumexp(logs, 0)

    @property
    def is_positive(self) -> bool:
        return self.floor > 0

    def log_weights(self) -> Tensor:
        squared = _log_square(self.log_root(), self.dim)
        # As a density, (1 - eps) q^2 / E q^2 + eps; then scaled to 1 at coincidence.
        density = squared - squared[0] + math.log1p(-self.floor)
        density[0] = 0.0
        return density - torch.logsumexp(density, 0)

    def log(self, c: Tensor) -> Tensor:
        require_positive(self)
        # phi = p_0 ((1 - eps) q^2 / E q^2 + eps): through q, because phi next to its zeros is a small
        # difference.
        factor = _density_factor(self)
        return torch.log(factor * evaluate(c, self, "root").square() + self.floor) + self.log_mean

    def log_polynomial(self, order: int = 0) -> tuple[float, ...] | None:
        return None  # singular next to the zeros of q

    def samples(self, c: Tensor, profile: Profile, order: int) -> Tensor:
        if profile != "root":
            return super().samples(c, profile, order)
        u = torch.exp(self.log_root())
        if order >= u.numel():
            return torch.zeros_like(c)
        scaled = u * gegenbauer_derivative_at_one(u.numel() - 1, self.dim, order)
        return gegenbauer_sum(c, scaled[order:], self.dim + 2 * order)


@dataclass(frozen=True)
class JacksonKernel(_SquaredKernel):
    """Square of the most concentrated polynomial of its degree, with a floor, scaled to 1 at coincidence.

    ``phi(c) ∝ (1 - eps) q(c)^2 / E q^2 + eps``, ``q = sum_{l<=m} v_l sqrt(N(l, d)) P_l``, v the top
    eigenvector of the (m+1) x (m+1) Jacobi matrix of the law of one coordinate: among the squares of degree m
    it has the largest ``a_1``, the largest zero of the Gegenbauer polynomial of degree m + 1.

    Args:
        dim: ambient dimension d.
        max_degree: L = 2m, the band limit. With L = 2, ``q ∝ 1 + sqrt(d) c``.
        floor: eps, the share of the uniform density in the mixture. q has zeros, where a logarithm would be
            -inf; with the floor ``log(c) - log_mean >= log(eps)``. 0 leaves the pure square, without ``log``.

    Raises:
        ValueError: max_degree odd or outside 2, ..., 400; floor outside [0, 1).
    Numerics:
        Weights by Dougall's linearisation, all terms positive, in log space; ``log`` through q, so accurate
        at the zeros of q too.
    Reference:
        Weiße et al., Rev. Mod. Phys. 78 (2006), section II.C.3, for d = 2; in general the extremal problem is
        the Rayleigh quotient of the Jacobi matrix. Dougall's linearisation: DLMF 18.18.22.
    """

    def unscaled_root(self) -> Tensor:
        b = jacobi_off_diagonal(self.max_degree // 2, self.dim)
        _, vectors = torch.linalg.eigh(torch.diag(b, 1) + torch.diag(b, -1))
        return torch.log(vectors[:, -1].abs()) + log_harmonic_dimensions(self.max_degree // 2, self.dim) / 2


@dataclass(frozen=True)
class FejerKernel(_SquaredKernel):
    """Square of the reproducing kernel of degree L, with a floor, scaled to 1 at coincidence.

    ``phi(c) ∝ (1 - eps) D(c)^2 / E D^2 + eps``, ``D = sum_{l<=m} N(l, d) P_l``; the classical Fejér kernel at
    d = 2.

    Args:
        dim: ambient dimension d.
        max_degree: L = 2m, the band limit.
        floor: eps, the share of the uniform density in the mixture. D has zeros, where a logarithm would be
            -inf; with the floor ``log(c) - log_mean >= log(eps)``. 0 leaves the pure square, without ``log``.

    Raises:
        ValueError: max_degree odd or outside 2, ..., 400; floor outside [0, 1).
    Numerics:
        As :class:`JacksonKernel`, which is less peaked: at d = 64, L = 2 its a_1 is 0.125, this one's 0.031.
    Reference:
        Fejér, Math. Ann. 58 (1904), for d = 2; Dougall's linearisation: DLMF 18.18.22.
    """

    def unscaled_root(self) -> Tensor:
        return log_harmonic_dimensions(self.max_degree // 2, self.dim)


@torch.compiler.assume_constant_result
def _density_factor(kernel: _SquaredKernel) -> float:
    """``(1 - eps) / E q^2``."""
    return (1 - kernel.floor) * math.exp(-float(_log_square(kernel.log_root(), kernel.dim)[0]))


@lru_cache(maxsize=64)
def _linearisation(degree: int, dim: int) -> tuple[tuple[int, int, Tensor], ...]:
    """Log coefficients w_k of ``P_m P_n = sum_k w_k P_{m+n-2k}``, k = 0..n, for all m >= n."""
    a = (dim - 2) / 2
    steps = torch.arange(2 * degree + 1, dtype=torch.float64, device="cpu")

    def log_rising(x: float) -> Tensor:
        """log (x)_j / j! for j = 0, 1, ..."""
        start = torch.zeros(1, dtype=torch.float64, device="cpu")
        return torch.cat([start, torch.log((x + steps) / (1 + steps)).cumsum(0)])

    one, two = log_rising(a), log_rising(2 * a)
    pairs = []
    for m in range(degree + 1):
        for n in range(m + 1):
            if dim == 2:  # cos m cos n = (cos(m + n) + cos(m - n)) / 2
                w = torch.full((n + 1,), -math.inf, dtype=torch.float64, device="cpu")
                w[0] = w[-1] = -math.log(2) if n else 0.0
            else:
                k = torch.arange(n + 1, device="cpu")
                w = (
                    torch.log((m + n + a - 2.0 * k.double()) / (m + n + a - k.double()))
                    + one[k] + one[m - k] + one[n - k]
                    + two[m + n - k] - one[m + n - k]
                    - two[m] - two[n]
                )  # fmt: skip
            pairs.append((m, n, w))
    return tuple(pairs)


@lru_cache(maxsize=256)
def _square_cached(log_root: tuple[float, ...], dim: int) -> Tensor:
    degree = len(log_root) - 1
    total = torch.full((2 * degree + 1,), -math.inf, dtype=torch.float64, device="cpu")
    for m, n, w in _linearisation(degree, dim):
        at = m + n - 2 * torch.arange(n + 1, device="cpu")
        twice = math.log(2) if m != n else 0.0
        total[at] = torch.logaddexp(total[at], w + log_root[m] + log_root[n] + twice)
    return total


def _log_square(log_root: Tensor, dim: int) -> Tensor:
    """Log coefficients of q^2 in P_0, ..., P_{2L} from the log coefficients of q."""
    return _square_cached(tuple(log_root.tolist()), dim).clone()
