"""A zonal kernel is a function of the cosine, known by its spectrum: one nonnegative weight per degree."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isosphere.kernels.evaluation import evaluate, folded_polynomial
from isosphere.sphere import (
    gegenbauer_derivative_at_one,
    gegenbauer_sum,
    log_harmonic_dimensions,
)
from isosphere.sphere.harmonics import check_dim

__all__ = ["ZonalKernel"]

_ORDERS = 4


class ZonalKernel(ABC):
    """Positive definite function of ``c = <x, y>`` on the sphere, normalised to ``phi(1) = 1``.

    ``phi(c) = sum_l p_l P_l(c)``, ``p_l = a_l N(l, d) / sum_k a_k N(k, d)``: the weights are nonnegative and sum to 1
    (Schoenberg). ``p_0`` is the mean under the uniform law.

    Kernels are immutable, hashable and picklable values, not modules: nothing in them can be rounded by ``.bfloat16()``.
    Coefficients are computed in float64 once per kernel, and cached.

    Shape:
        Any shape, elementwise. Evaluated in the dtype of c, float32 at least. c is expected in [-1, 1]; a few units in
        the last place beyond are harmless.
    Raises:
        TypeError: c is not floating point, or the kernel is built with a dim that is not an int.
        ValueError: a parameter outside its range.
    Numerics:
        Weights by log-space sums of positive terms, truncated by a proven bound of the tail; values by a Chebyshev fit
        of the Gegenbauer series, in float32 by Horner's rule where that is exact to 1e-7. Differentiable to any order.
    Reference:
        Schoenberg, Duke Math. J. 9 (1942), theorem 1; MMD, KSD and KL in arXiv 2606.17603, section 3.
    """

    dim: int

    @abstractmethod
    def log_weights(self) -> Tensor:
        """Logarithms of the weights, float64 (L + 1,), ``-inf`` where a degree is absent."""

    # -- values ---------------------------------------------------------------------------------------------------

    def __call__(self, c: Tensor) -> Tensor:
        """``phi(c)``, elementwise."""
        return self.derivative(c, 0)

    def derivative(self, c: Tensor, order: int = 1) -> Tensor:
        """``d^m phi / dc^m``, elementwise; order 0 is the kernel itself.

        Raises:
            ValueError: order is not one of 0, 1, 2, 3, 4.
        """
        _check_order(order)
        return evaluate(c, GegenbauerProfile(self), order)

    def log(self, c: Tensor) -> Tensor:
        """``log phi(c)``, elementwise, accurate over all of [-1, 1].

        Raises:
            ValueError: the kernel takes values at or below 0 (see the message for the kernels that do not).
        """
        raise ValueError(
            f"{self!r} is not positive on all of [-1, 1], so it has no logarithm: "
            "use HeatKernel, VonMisesFisherKernel, JacksonKernel or FejerKernel"
        )

    def polynomial(self, order: int = 0) -> tuple[float, ...] | None:
        """Monomial coefficients in c of the order-th derivative, lowest first, or None.

        Given only where a float32 Horner sum of them is within 1e-7 of the largest value over [-1, 1], so that a
        blocked reduction may fuse the kernel into its loop.
        """
        _check_order(order)
        return folded_polynomial(GegenbauerProfile(self), order)

    # -- spectrum -------------------------------------------------------------------------------------------------

    def weights(self) -> Tensor:
        """Weights ``p_0, ..., p_L``, float64 (L + 1,), nonnegative, sum 1."""
        return _weights(self).clone()

    @property
    def max_degree(self) -> int:
        """Degree L at which the series ends."""
        return _weights(self).numel() - 1

    @property
    def mean(self) -> float:
        """``p_0 = E phi(<x, y>)`` under the uniform law."""
        return math.exp(self.log_mean)

    @property
    def log_mean(self) -> float:
        """``log p_0``: ``log(c) - log_mean`` is a log density with respect to the uniform probability (in nats)."""
        return float(_log_weights(self)[0])

    @property
    def chi2(self) -> float:
        """Variance of the kernel over independent uniform pairs, ``sum_{l>=1} p_l^2 / N(l, d)``."""
        logs = 2 * _log_weights(self)[1:] - log_harmonic_dimensions(self.max_degree, self.dim)[1:]
        return math.fsum(torch.exp(logs).tolist())

    def second_moment_coefficients(self) -> tuple[float, float, float] | None:
        """``(p_0, p_1, p_2)`` if the kernel ends at degree 2 or below, so that d x d moments suffice; else None."""
        p = _weights(self).tolist()
        return None if len(p) > 3 else (p[0], *p[1:], *([0.0] * (3 - len(p))))  # type: ignore[return-value]


@dataclass(frozen=True)
class GegenbauerProfile:
    """The kernel as a profile: its derivatives are Gegenbauer series in dimension d + 2m."""

    kernel: ZonalKernel

    def samples(self, c: Tensor, order: int) -> Tensor:
        p, d = _weights(self.kernel), self.kernel.dim
        if order >= p.numel():
            return torch.zeros_like(c)
        scaled = p * gegenbauer_derivative_at_one(p.numel() - 1, d, order)
        return gegenbauer_sum(c, scaled[order:], d + 2 * order)


@lru_cache(maxsize=256)
def _log_weights(kernel: ZonalKernel) -> Tensor:
    return kernel.log_weights()


@lru_cache(maxsize=256)
def _weights(kernel: ZonalKernel) -> Tensor:
    p = torch.exp(_log_weights(kernel))
    return p / math.fsum(p.tolist())


def _check_order(order: int) -> None:
    if not isinstance(order, int) or isinstance(order, bool) or not 0 <= order <= _ORDERS:
        raise ValueError(f"order must be one of 0, 1, 2, 3, 4, got {order!r}")


def check_kernel_dim(dim: int) -> None:
    """Refuse a dimension that no kernel of this folder supports."""
    check_dim(dim)
