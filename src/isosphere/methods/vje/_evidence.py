"""The pieces of VJE's bound: the posterior, the directional and the radial factor, and scores made of them."""

__all__ = [
    "CauchyFactor",
    "Directional",
    "Posterior",
    "RadialFactor",
    "StudentFactor",
    "directional_factor",
    "evidence_scores",
]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from isosphere.devices import constant
from isosphere.methods.vje._likelihood import (
    diagonal_gaussian_kl,
    log_student_t_of_square,
    log_student_t_on_sphere,
    log_subdensity_constant,
)
from isosphere.sphere import log_norm, log_spherical_cauchy, normalize

_REACH = 10.0
"""Logarithms of variances lie in (-10, 10): smooth, nearly linear where it matters, finite in any case."""

_TYPICAL_VARIANCE, _TYPICAL_DISTANCE = 0.75, 0.75
"""Posterior variance (of 1 under the prior) at which a factor's slope is stated, and 1 - cosine there of a sample to a
target: a sample then keeps half of the cosine of its mean, so that the mean feels half of the slope.
"""


class Posterior(NamedTuple):
    """q(z | h) = N(mean, diag exp(log_variance)), and the scale of the directional factor; each ``(*, d)``.

    The scale is in the units of a direction: ``unit`` times the square root of a variance in those of z. A factor
    without a scale of its own (the spherical Cauchy law) has None.

    Example:
        >>> Posterior.of([torch.ones(3), torch.zeros(3)], None).mean
        tensor([1., 1., 1.])
    """

    mean: Tensor
    log_variance: Tensor
    deviation: Tensor
    scale: Tensor | None

    @classmethod
    def of(cls, outputs: Sequence[Tensor], floor: float | None, unit: float = 1.0) -> "Posterior":
        """From the inference network's outputs: mean, log variance, and where untied log variance of the factor.

        A logarithm a becomes ``10 tanh(a / 10)``. The factor's variance is that plus ``floor^2``, times ``unit^2``;
        tied, the posterior's is the same number before the unit, so that both logarithms cancel up to a constant.
        Without a floor the factor has no scale.
        """
        mean, *logs = (_bounded(part) if i else part for i, part in enumerate(outputs))
        if floor is not None:
            logs[-1] = _with_floor(logs[-1], floor)
        deviation, *of_factor = ((a / 2).exp() for a in logs)
        scale = None if floor is None else unit * (of_factor[0] if of_factor else deviation)
        return cls(mean, logs[0], deviation, scale)

    @property
    def variance(self) -> Tensor:
        """v, ``(*, d)``."""
        return self.log_variance.exp()

    def sample(self, noise: Tensor) -> Tensor:
        """``mean + sqrt(v) noise``, differentiable; noise broadcasts, ``(*samples, *, d)``."""
        return torch.addcmul(self.mean, self.deviation, noise)


def _bounded(logs: Tensor) -> Tensor:
    return _REACH * torch.tanh(logs / _REACH)


def _with_floor(log_variance: Tensor, floor: float) -> Tensor:
    least = constant((2 * math.log(floor),), log_variance.device, log_variance.dtype)
    return torch.logaddexp(log_variance, least)


Directional = Literal["student", "student-product", "cauchy"]
"""The directional factors by name: a multivariate Student-t, a product of univariate ones, a spherical Cauchy law."""


@dataclass(frozen=True)
class StudentFactor:
    """The sub-normalised Student-t on the sphere; call with unit rows, centre and scale ``(*, d)`` -> ``(*,)``.

    Scales are ``unit`` times those of z, and at least ``unit * floor``. The law is the multivariate one, or with
    ``independent`` features a product of univariate ones.

    Example:
        >>> u, scale = torch.eye(4)[0], torch.full((4,), 0.5)
        >>> bool(StudentFactor(4)(u, u, scale) > StudentFactor(4)(u, -u, scale))
        True
    """

    dim: int
    degrees_of_freedom: float = 5.0
    floor: float = 0.01
    unit: float = 1.0
    independent: bool = False

    def __post_init__(self) -> None:
        if not (self.floor > 0 and 0 < self.unit < math.inf):
            raise ValueError(f"got sigma_min={self.floor}, unit={self.unit}, expected positive numbers")
        self._log_constant()  # refuses what else cannot be

    def _log_constant(self) -> float:
        floor = self.unit * self.floor
        return log_subdensity_constant(self.dim, self.degrees_of_freedom, floor, independent=self.independent)

    def __call__(self, u: Tensor, centre: Tensor, scale: Tensor | None) -> Tensor:
        assert scale is not None, "a posterior of this factor has a scale"
        floor = self.unit * self.floor
        return log_student_t_on_sphere(
            u, centre, scale, self.degrees_of_freedom, floor, independent=self.independent
        )

    @property
    def slope(self) -> float:
        """Slope of minus the log density, per dimension, in one minus the cosine of target and posterior mean; of
        independent features where the squared distance is spread evenly over them.
        """
        nu, d, variance = self.degrees_of_freedom, self.dim, self.unit**2 * _TYPICAL_VARIANCE
        if math.isinf(nu):
            return 1 / (d * variance) / 2
        if self.independent:
            return (nu + 1) / (nu * d * variance + 2 * _TYPICAL_DISTANCE) / 2
        return (nu + d) / d / (nu * variance + 2 * _TYPICAL_DISTANCE) / 2

    def __str__(self) -> str:
        return (
            f"{'product of Student-t, one a feature' if self.independent else 'Student-t'}, "
            f"{self.degrees_of_freedom:g} degrees of freedom, scale {self.unit:.3g} times the posterior's, "
            f"at least {self.unit * self.floor:.3g} (log K = {self._log_constant():.3g})"
        )


@dataclass(frozen=True)
class CauchyFactor:
    """The spherical Cauchy law; call with unit rows and centre ``(*, d)`` -> ``(*,)``. It has no scale per feature."""

    dim: int
    rho: float = 0.8
    floor: None = None
    unit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rho < 1:
            raise ValueError(f"got rho={self.rho}, expected a number between 0 and 1, such as 0.8")

    def __call__(self, u: Tensor, centre: Tensor, scale: Tensor | None = None) -> Tensor:
        return log_spherical_cauchy(u, centre, self.rho)

    @property
    def slope(self) -> float:
        """Slope of minus the log density, per dimension, in one minus the cosine of target and posterior mean."""
        d, rho = self.dim, self.rho
        return (d - 1) / d * 2 * rho / ((1 - rho) ** 2 + 2 * rho * _TYPICAL_DISTANCE) / 2

    def __str__(self) -> str:
        return f"spherical Cauchy, rho = {self.rho:g}"


def directional_factor(
    name: Directional,
    dim: int,
    *,
    degrees_of_freedom: float | None = None,
    sigma_min: float | None = None,
    unit: float | None = None,
    rho: float | None = None,
) -> StudentFactor | CauchyFactor:
    """The factor of this name with what is given, the rest by default.

    The unit of a Student-t's scale is by default 1/sqrt(d): a posterior of variance v about a z of length sqrt(d)
    spreads its direction by sqrt(v/d). At 1 the scale of a coordinate of z meets coordinates of the size 1/sqrt(d),
    and the factor hardly tells the target from any other direction.

    Raises:
        ValueError: another name, or an argument of the other factor.
    """
    student = {"degrees_of_freedom": degrees_of_freedom, "sigma_min": sigma_min, "unit": unit}
    options = {"student": student, "student-product": student, "cauchy": {"rho": rho}}
    if name not in options:
        raise ValueError(f"got directional={name!r}, expected 'student', 'student-product' or 'cauchy'")
    given = {key: x for of in options.values() for key, x in of.items() if x is not None}
    for key in given.keys() - options[name].keys():
        raise ValueError(
            f"got {key}={given[key]} with directional={name!r}, which has no {key}: leave it out"
        )
    if name == "cauchy":
        return CauchyFactor(dim, given.get("rho", CauchyFactor.rho))
    floor = given.pop("sigma_min", StudentFactor.floor)
    independent = name == "student-product"
    return StudentFactor(dim, **{"floor": floor, "unit": dim**-0.5, **given}, independent=independent)


@dataclass(frozen=True)
class RadialFactor:
    """Scalar Student-t of the target's log length about the sample's; call with both ``(*,)`` -> ``(*,)``."""

    degrees_of_freedom: float = 5.0
    scale: float = 0.2

    def __post_init__(self) -> None:
        if not self.degrees_of_freedom > 0 or not 0 < self.scale < math.inf:
            raise ValueError(
                f"got radial_degrees_of_freedom={self.degrees_of_freedom}, radial_scale={self.scale}, expected "
                "positive numbers"
            )

    def __call__(self, log_r: Tensor, log_length: Tensor) -> Tensor:
        square = (log_r - log_length).square()
        return log_student_t_of_square(square, 1, self.degrees_of_freedom, self.scale)

    def __str__(self) -> str:
        return f"Student-t of the log length, {self.degrees_of_freedom:g} degrees of freedom, scale {self.scale:g}"


def evidence_scores(
    h: Tensor,
    posterior: Posterior,
    factor: StudentFactor | CauchyFactor,
    radius: RadialFactor | None,
    noise: Tensor,
) -> dict[str, Tensor]:
    """Scores of embeddings ``(n, d)`` under the posteriors about themselves; see :meth:`isosphere.methods.VJE.scores`.

    Shape:
        ``noise`` ``(samples, 1 or n, d)`` to ``(n,)`` each, larger for familiar rows.
    """
    u, log_r = normalize(h), log_norm(h)

    def factors(z: Tensor) -> tuple[Tensor, Tensor]:
        directional = factor(u, normalize(z), posterior.scale)
        radial = torch.zeros_like(log_r) if radius is None else radius(log_r, log_norm(z))
        return directional, radial

    kl = diagonal_gaussian_kl(posterior.mean, posterior.log_variance)
    directional, radial = factors(posterior.mean)
    likelihoods, weights = [], []
    for drawn in noise:
        z = posterior.sample(drawn)
        likelihoods.append(sum(factors(z)))
        # twice the log prior less the log posterior, by dimension
        excess = drawn.square() - z.square() + posterior.log_variance
        weights.append(likelihoods[-1] + excess.sum(-1) / 2)
    found = {
        "elbo": torch.stack(likelihoods).mean(0) - kl,
        "elbo-mean": directional + radial - kl,
        "importance": torch.stack(weights).logsumexp(0) - math.log(len(noise)),
        "directional": directional,
        "kl": -kl,
        "variance": -posterior.variance.mean(-1),
    }
    if radius is None:
        return found
    found["radial"] = radial
    length = h.shape[-1] * log_r
    return found | {
        f"{name}|h": found[name] - length for name in ("elbo", "elbo-mean", "importance", "radial")
    }
