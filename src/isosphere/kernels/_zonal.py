"""A zonal kernel is a function of the cosine, known by its spectrum: one nonnegative weight per degree."""

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from isosphere.kernels._approximate import Profile, Sum, constant_when_compiled, evaluate, shortest_sum
from isosphere.sphere import gegenbauer_derivative_at_one, gegenbauer_sum, log_harmonic_dimensions

__all__ = ["MOST_DEGREES", "ZonalKernel", "check_order", "cut_geometric_tail", "log_tail", "require_positive"]

MOST_DEGREES = 20_000
"""Degrees beyond which a kernel is as good as an identity matrix, and refused."""


class ZonalKernel(ABC):
    """Positive definite function of ``c = <x, y>`` on the sphere, normalised to ``phi(1) = 1``.

    ``phi(c) = sum_l p_l P_l(c)``, ``p_l = a_l N(l, d) / sum_k a_k N(k, d)``: the weights are nonnegative and
    sum to 1 (Schoenberg), and ``p_0`` is the mean under the uniform law. A kernel is defined by its
    ``log_weights``; a subclass adds closed forms where there are any.

    Kernels are immutable, hashable and picklable values, not modules: ``.bfloat16()`` cannot round what is in
    them.

    Shape:
        Any shape, elementwise. Evaluated in the dtype of c, float32 at least; c is expected in [-1, 1], and a
        few units in the last place beyond are harmless.
    Raises:
        TypeError: c is not floating point, or dim is not an int.
        ValueError: a parameter outside its range.
    Numerics:
        d from 2 to 4096 and beyond. Weights are log-space sums of positive terms, cut where a bound of the
        tail says so. Values come from a Chebyshev fit of the Gegenbauer series (float64 coefficients, cached
        by device and dtype); float32 uses Horner's rule where it is within two units in the last place of
        phi(1). Differentiable to any order, forward and backward, and through ``torch.func``, without
        intermediates kept for the backward pass.
    Reference:
        Schoenberg, Duke Math. J. 9 (1942), theorem 1; arXiv 2606.17603 (its w(lambda_l) is our a_l).
    """

    dim: int

    @abstractmethod
    def log_weights(self) -> Tensor:
        """Logarithms of the weights, float64 (L + 1,), ``-inf`` where a degree is absent."""

    # -- values

    def __call__(self, c: Tensor) -> Tensor:
        """``phi(c)``, elementwise."""
        return self.derivative(c, 0)

    def derivative(self, c: Tensor, order: int = 1) -> Tensor:
        """``d^m phi / dc^m``, elementwise; order 0 is the kernel itself.

        Raises:
            ValueError: order is not one of 0, 1, 2, 3, 4.
        """
        check_order(order)
        return evaluate(c, _value, self, order)

    def centred(self, c: Tensor, order: int = 0) -> Tensor:
        """``(phi(c) - p_0) / (1 - p_0)`` or its m-th derivative, elementwise: 1 at coincidence, of mean 0 under the
        uniform law.

        What statistics of pairs sum. The term of degree 0 is left out before anything is rounded: near uniformity
        the sum is a small difference of large numbers otherwise.
        """
        return evaluate(c, _centred, self, order)

    def centred_series(self) -> tuple[Sum, Sum]:
        """:meth:`centred` and its derivative as the sums that are evaluated in float32."""
        return shortest_sum(_centred, self, 0, True), shortest_sum(_centred, self, 1, True)

    def log_series(self) -> tuple[Sum, Sum] | None:
        """:meth:`log` and its derivative as such sums; None where a sum would lose digits."""
        return shortest_sum(_logarithm, self, 0, True), shortest_sum(_logarithm, self, 1, True)

    def log(self, c: Tensor) -> Tensor:
        """``log phi(c)``, accurate over all of [-1, 1]; ``log(c) - log_mean`` is a log density in nats.

        Raises:
            ValueError: the kernel is not positive on all of [-1, 1].
        """
        require_positive(self)
        return evaluate(c, _logarithm, self)

    @property
    def is_positive(self) -> bool:
        """Whether ``phi > 0`` on all of [-1, 1], so that ``log`` and the KL discrepancy are defined."""
        return False

    # -- spectrum

    def weights(self) -> Tensor:
        """Weights ``p_0, ..., p_L``, float64 (L + 1,) on the CPU, nonnegative, sum 1."""
        return _weights(self).clone()

    @property
    def max_degree(self) -> int:
        """Degree L at which the series ends."""
        return _log_weights(self).numel() - 1

    @property
    def mean(self) -> float:
        """``p_0 = E phi(<x, y>)`` under the uniform law."""
        return math.exp(self.log_mean)

    @property
    def log_mean(self) -> float:
        """``log p_0``, also where ``p_0`` underflows (``-inf`` without a degree 0)."""
        return _summary(self)[0]

    @property
    def pair_variance(self) -> float:
        """Variance of the kernel over independent uniform pairs, ``sum_{l >= 1} p_l^2 / N(l, d)``."""
        return _summary(self)[1]

    def second_moment_coefficients(self) -> tuple[float, float, float] | None:
        """``(p_0, p_1, p_2)`` if the kernel ends at degree 2, so that d x d moments suffice; else None."""
        p = _weights(self).tolist()
        if len(p) > 3:
            return None
        p += [0.0] * (3 - len(p))
        return p[0], p[1], p[2]

    # -- what is approximated

    def log_profile(self) -> Profile:
        """The logarithm, for :meth:`log`: here from the series, so as accurate as ``phi`` is small."""
        series = _value(self)

        def samples(c: Tensor, order: int) -> Tensor:
            return log_derivatives([series.samples(c, m) for m in range(order + 1)])[order]

        return Profile(self.dim, samples)


# Module functions of the kernel, so that equal kernels share what was fitted (see `_approximate`).


def _value(kernel: ZonalKernel) -> Profile:
    return _series(_weights(kernel), kernel.dim)


def _centred(kernel: ZonalKernel) -> Profile:
    p = _weights(kernel).clone()
    p[0] = 0
    return _series(p / math.fsum(p.tolist()), kernel.dim)


def _logarithm(kernel: ZonalKernel) -> Profile:
    return kernel.log_profile()


def _series(p: Tensor, dim: int) -> Profile:
    """``sum_l p_l P_l``, whose m-th derivative is a series in dimension d + 2m."""

    def scaled(order: int) -> Tensor:
        return (p * gegenbauer_derivative_at_one(p.numel() - 1, dim, order))[order:]

    def samples(c: Tensor, order: int) -> Tensor:
        return gegenbauer_sum(c, scaled(order), dim + 2 * order) if order < p.numel() else torch.zeros_like(c)

    def leading(order: int) -> np.ndarray:
        return scaled(order)[:3].numpy() if order < p.numel() else np.zeros(1)

    return Profile(dim, samples, leading)


def log_derivatives(values: list[Tensor]) -> list[Tensor]:
    """Derivatives of log f: ``l_n = R_n - sum_k C(n-1, k-1) l_k R_{n-k}`` with ``R_n = f^(n) / f``."""
    ratio = [v / values[0] for v in values]
    logs = [torch.log(values[0])]
    for n in range(1, len(values)):
        rest = [math.comb(n - 1, k - 1) * logs[k] * ratio[n - k] for k in range(1, n)]
        logs.append(ratio[n] - sum(rest, torch.zeros_like(values[0])))
    return logs


# A compiler takes the results of the next two as constants: it must not trace sums that it need never repeat.


@constant_when_compiled
def require_positive(kernel: ZonalKernel) -> bool:
    """True, or the error that says which kernels have a logarithm."""
    if not kernel.is_positive:
        raise ValueError(
            f"{kernel!r} is not positive on all of [-1, 1], so it has no logarithm: use HeatKernel, "
            "VonMisesFisherKernel, InducedKernel with a bandwidth, JacksonKernel or FejerKernel with a floor"
        )
    return True


@constant_when_compiled
def _summary(kernel: ZonalKernel) -> tuple[float, float]:
    return _cached_summary(kernel)


@lru_cache(maxsize=256)
def _cached_summary(kernel: ZonalKernel) -> tuple[float, float]:
    """log p_0 and the variance over pairs."""
    logs = _log_weights(kernel)
    squares = 2 * logs - log_harmonic_dimensions(logs.numel() - 1, kernel.dim)
    return float(logs[0]), math.fsum(torch.exp(squares[1:]).tolist())


def cut_geometric_tail(logs: Tensor) -> Tensor | None:
    """Log terms up to the first degree beyond which the rest is proven below 1e-24; None: give more.

    For terms as :func:`log_tail` takes them. (1e-24 leaves room for the factors lambda_l^2 of Stein kernels.)
    """
    proven = log_tail(logs) <= math.log(1e-24) + torch.logcumsumexp(logs, 0)[:-2]
    return logs[: int(torch.nonzero(proven)[0]) + 1] if bool(proven.any()) else None


def log_tail(logs: Tensor) -> Tensor:
    """Logarithm of a bound of the sum beyond each term (but the last two), for log terms ``(*, L)``; inf: no bound.

    For terms whose ratios decrease in the degree: as |P_l| <= 1, the tail beyond L is at most
    ``term_{L+1} / (1 - ratio_{L+1})`` once that ratio is below 1.
    """
    later = logs[..., 1:-1]
    return later - torch.log1p(-torch.exp(logs[..., 2:] - later).clamp(max=1))


@lru_cache(maxsize=256)
def _log_weights(kernel: ZonalKernel) -> Tensor:
    return kernel.log_weights()


@lru_cache(maxsize=256)
def _weights(kernel: ZonalKernel) -> Tensor:
    p = torch.exp(_log_weights(kernel))
    return p / math.fsum(p.tolist())


def check_order(order: int) -> None:
    """Refuse an order of derivative that is not offered."""
    if not isinstance(order, int) or isinstance(order, bool) or not 0 <= order <= 4:
        raise ValueError(f"order must be one of 0, 1, 2, 3, 4, got {order!r}")
