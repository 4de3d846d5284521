"""Positive kernels of a finite band: squares of polynomials, with a floor that keeps the logarithm finite."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from isosphere.kernels._approximate import as_cosines, constant_when_compiled
from isosphere.kernels._zonal import ZonalKernel, require_positive
from isosphere.sphere import (
    Elementwise,
    check_degree,
    check_dim,
    jacobi_off_diagonal,
    log_harmonic_dimension,
    log_harmonic_dimensions,
)

__all__ = ["FejerKernel", "JacksonKernel"]

_MOST_SQUARED = 400
_MOST_PEAKED = 69.0  # log of the density at coincidence: 1e30, whose square root float32 still squares


@dataclass(frozen=True)
class _SquaredKernel(ZonalKernel):
    """``phi = p_0 ((1 - eps) q^2 + eps)`` for ``q = sum_l v_l sqrt(N(l, d)) P_l``, v >= 0, ``E q^2 = |v|^2 = 1``."""

    dim: int
    max_degree: int = 2  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    floor: float = 0.01

    def __post_init__(self) -> None:
        check_dim(self.dim)
        check_degree(self.max_degree, "max_degree")
        if self.max_degree % 2 or not 2 <= self.max_degree <= _MOST_SQUARED:
            raise ValueError(
                f"max_degree is that of a square: even, 2 to {_MOST_SQUARED}; got {self.max_degree}: try 2"
            )
        if log_harmonic_dimension(self.max_degree // 2, self.dim) > _MOST_PEAKED:
            raise ValueError(
                f"max_degree {self.max_degree} at dim {self.dim} makes an identity matrix (a density of 1e30 at "
                "coincidence): lower it, e.g. to 2"
            )
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor must lie in [0, 1), got {self.floor}: 0.01 is the default")
        object.__setattr__(self, "floor", float(self.floor))

    @abstractmethod
    def log_root(self) -> Tensor:
        """``log v_l``, l = 0 to max_degree / 2, up to a common constant."""

    @property
    def is_positive(self) -> bool:
        return self.floor > 0

    def log_weights(self) -> Tensor:
        density = _log_square(self) + math.log1p(-self.floor)
        density[0] = 0.0
        return density - torch.logsumexp(density, 0)

    def log(self, c: Tensor) -> Tensor:
        require_positive(self)
        # Through q, whose typical size is 1: phi itself is a difference of large terms nearly everywhere.
        q = _root(as_cosines(c), self)
        return torch.log((1 - self.floor) * q.square() + self.floor) + self.log_mean

    def log_series(self) -> None:
        return None


class _Root(Elementwise):
    """The order-th derivative of q, as a sum of orthonormal polynomials in dimension d + 2m."""

    @staticmethod
    def forward(c: Tensor, kernel: _SquaredKernel, order: int) -> Tensor:
        a, b = _root_numbers(kernel, order)
        before, now = torch.zeros_like(c), torch.ones_like(c)
        total = a[0] * now
        for l in range(1, len(a)):
            # c e_{l-1} = b_l e_l + b_{l-1} e_{l-2}
            before, now = now, (c * now - b[l - 1] * before) / b[l]
            total = total + a[l] * now
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (c,), (kernel, order) = ctx.saved_tensors, ctx.rest
        return grads[0] * _root(c, kernel, order + 1), None, None


class _TracedRoot(_Root):
    # A compiler refuses functions that bring one.
    jvp = torch.autograd.Function.jvp  # pyright: ignore[reportAssignmentType]


def _root(c: Tensor, kernel: _SquaredKernel, order: int = 0) -> Tensor:
    return (_TracedRoot if torch.compiler.is_compiling() else _Root).apply(c, kernel, order)


@constant_when_compiled
def _root_numbers(kernel: _SquaredKernel, order: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients of the order-th derivative of q, and the recurrence ``0, b_1, b_2, ...`` of its polynomials.

    ``N(l, d) P_l' = d N(l-1, d+2) P_{l-1}^{(d+2)}``, so
    ``e_l' = d sqrt(N(l-1, d+2) / N(l, d)) e_{l-1}^{(d+2)}``.
    """
    log_a = _log_unit_root(kernel)
    for m in range(order):
        d, degree = kernel.dim + 2 * m, log_a.numel() - 1
        if degree == 0:
            return (0.0,), (0.0,)
        lower, upper = log_harmonic_dimensions(degree, d), log_harmonic_dimensions(degree - 1, d + 2)
        log_a = log_a[1:] + math.log(d) + (upper - lower[1:]) / 2
    b = jacobi_off_diagonal(log_a.numel() - 1, kernel.dim + 2 * order)
    return tuple(torch.exp(log_a).tolist()), (0.0, *b.tolist())


def _log_unit_root(kernel: _SquaredKernel) -> Tensor:
    logs = kernel.log_root()
    return logs - torch.logsumexp(2 * logs, 0) / 2


@dataclass(frozen=True)
class JacksonKernel(_SquaredKernel):
    """Square of the most concentrated polynomial of its degree, with a floor, scaled to 1 at coincidence.

    ``phi(c) ∝ (1 - eps) q(c)^2 + eps``, ``q = sum_{l<=m} v_l sqrt(N(l, d)) P_l``, v the top
    eigenvector of the (m+1) x (m+1) Jacobi matrix of the law of one coordinate: among the squares of degree m
    it has the largest ``a_1``, the largest zero of the Gegenbauer polynomial of degree m + 1.

    Args:
        dim: ambient dimension d.
        max_degree: L = 2m, the band limit. With L = 2, ``q ∝ 1 + sqrt(d) c``.
        floor: eps, the share of the uniform density in the mixture. q has zeros, where a logarithm would be
            -inf; with the floor ``log(c) - log_mean >= log(eps)``. 0 leaves the pure square, without ``log``.

    Raises:
        ValueError: max_degree odd, outside 2, ..., 400, or so high that phi is an identity matrix (a density
            of 1e30 at coincidence); floor outside [0, 1).
    Numerics:
        Weights by Dougall's linearisation, all terms positive, in log space; ``log`` through q, by the
        recurrence of orthonormal polynomials, so accurate where q is small too.
    Reference:
        Weiße et al., Rev. Mod. Phys. 78 (2006), section II.C.3, for d = 2; in general the extremal problem is
        the Rayleigh quotient of the Jacobi matrix. Dougall's linearisation: DLMF 18.18.22.

    Example:
        >>> kernel = JacksonKernel(64)
        >>> zero = torch.tensor(-1 / 8).double()  # of q = 1 + sqrt(d) c, where the floor is left
        >>> round(float(torch.exp(kernel.log(zero) - kernel.log_mean)), 6)
        0.01
    """

    def log_root(self) -> Tensor:
        b = jacobi_off_diagonal(self.max_degree // 2, self.dim)
        _, vectors = torch.linalg.eigh(torch.diag(b, 1) + torch.diag(b, -1))
        return torch.log(vectors[:, -1].abs())


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
        ValueError: max_degree odd, outside 2, ..., 400, or so high that phi is an identity matrix (a density
            of 1e30 at coincidence); floor outside [0, 1).
    Numerics:
        As :class:`JacksonKernel`, which is less peaked: at d = 64, L = 2 its a_1 is 0.125, this one's 0.031.
    Reference:
        Fejér, Math. Ann. 58 (1904), for d = 2; Dougall's linearisation: DLMF 18.18.22.

    Example:
        >>> FejerKernel(2, 4, floor=0.0).weights() * 25  # on the circle: 5, 4, 3, 2, 1 with both signs
        tensor([5.0000, 8.0000, 6.0000, 4.0000, 2.0000], dtype=torch.float64)
    """

    def log_root(self) -> Tensor:
        return log_harmonic_dimensions(self.max_degree // 2, self.dim) / 2


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


def _log_square(kernel: _SquaredKernel) -> Tensor:
    """Log coefficients of q^2 in P_0, ..., P_L; the first is 0, the mean of q^2 being 1."""
    log_v = _log_unit_root(kernel)
    degree = log_v.numel() - 1
    root = (log_v + log_harmonic_dimensions(degree, kernel.dim) / 2).tolist()
    total = torch.full((2 * degree + 1,), -math.inf, dtype=torch.float64, device="cpu")
    for m, n, w in _linearisation(degree, kernel.dim):
        at = m + n - 2 * torch.arange(n + 1, device="cpu")
        twice = math.log(2) if m != n else 0.0
        total[at] = torch.logaddexp(total[at], w + root[m] + root[n] + twice)
    return total
