r"""Densities of VJE, in polar coordinates: direction on the sphere times the logarithm of the length.

A vector is :math:`h = r u` with :math:`|u| = 1`. Directional densities here are with respect to the surface measure
:math:`dS(u)` (the uniform law's own is :math:`1/|S^{d-1}|`), radial ones with respect to :math:`d(\log r)`. Because
:math:`dh = r^d\, dS(u)\, d(\log r)`, the density of :math:`h` itself is the product of the two divided by
:math:`r^d`: subtract ``d * isosphere.sphere.log_norm(h)`` from the logarithm. That is constant for the gradient of a
model whose target is fixed, and it is not constant over images.

All functions work in the dtype of their arguments (float32 at least) and are differentiable.
"""

__all__ = [
    "diagonal_gaussian_kl",
    "log_student_t",
    "log_student_t_on_sphere",
    "log_subdensity_constant",
]

import math

import torch
from torch import Tensor

from isosphere.reductions import wide


def log_student_t(x: Tensor, location: Tensor, scale: Tensor, degrees_of_freedom: float) -> Tensor:
    r"""Log density of the multivariate Student-t law with diagonal scale, in :math:`\mathbb R^d`.

    .. math:: \log \Gamma\tfrac{\nu + d}{2} - \log \Gamma\tfrac{\nu}{2} - \tfrac d2 \log(\nu \pi) - \sum_i \log s_i
              - \tfrac{\nu + d}{2} \log\Big(1 + \tfrac1\nu \sum_i \big(\tfrac{x_i - \mu_i}{s_i}\big)^2\Big)

    ``degrees_of_freedom=math.inf`` is the Gaussian limit. :math:`s_i` is a scale, not a standard deviation.

    Shape:
        ``x``, ``location``, ``scale`` broadcast to ``(*, d)``; to ``(*,)``. ``scale`` must be positive.
    Raises:
        ValueError: degrees of freedom that are not positive.
    Reference:
        Kotz and Nadarajah, Multivariate t Distributions, eq. 1.1.
    """
    _check_degrees(degrees_of_freedom)
    x, location, scale = wide(x), wide(location), wide(scale)
    dim = torch.broadcast_shapes(x.shape, location.shape, scale.shape)[-1]
    square = ((x - location) / scale).square().sum(-1)
    logs = scale.log()
    volume = logs.sum(-1) if logs.shape[-1] == dim else dim * logs.squeeze(-1)
    return (
        _student_t_constant(dim, degrees_of_freedom)
        - volume
        - student_t_cost(square, dim, degrees_of_freedom)
    )


def student_t_cost(square: Tensor, dim: int, degrees_of_freedom: float) -> Tensor:
    r"""What a squared scaled distance costs: :math:`\tfrac{\nu + d}{2} \log(1 + q/\nu)`, in the Gaussian limit q/2."""
    nu = degrees_of_freedom
    return square / 2 if math.isinf(nu) else (nu + dim) / 2 * torch.log1p(square / nu)


def _student_t_constant(dim: int, nu: float) -> float:
    if math.isinf(nu):
        return -dim / 2 * math.log(2 * math.pi)
    return math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - dim / 2 * math.log(nu * math.pi)


def log_subdensity_constant(dim: int, degrees_of_freedom: float, floor: float) -> float:
    r"""``log K`` that makes a Student-t density of :math:`\mathbb R^d` a sub-density on the sphere.

    .. math:: K = \max\Big(1, \frac{c_d \sqrt{2\pi}\, t_\nu(0)}{\sigma_{\min}}\Big), \quad
              c_d = \max_r \chi_d(r) = \frac{2^{1 - d/2}}{\Gamma(d/2)} (d-1)^{(d-1)/2} e^{-(d-1)/2}

    The surface integral of a density of X over the unit sphere is the density of ``|X|`` at 1, which is not a
    probability and may exceed 1. For every mean and every diagonal scale with ``min_i s_i >= floor`` it is at most K.

    Proof: given the mixing variable of the t law, ``X = Y + s_min w N`` with N a standard Gaussian independent of Y.
    Given Y, ``|X|/(s_min w)`` is noncentral chi, a Poisson mixture of chi laws of d, d + 2, ... degrees of freedom, and
    their largest densities fall with the degrees: at most ``c_d/(s_min w)``. The mean of 1/w over the mixing law is
    ``sqrt(2 pi) t_nu(0)``.

    Raises:
        ValueError: dim < 2, a floor or degrees of freedom that are not positive.
    """
    if dim < 2:
        raise ValueError(f"got dim={dim}, expected the ambient dimension of the sphere, at least 2")
    if not floor > 0:
        raise ValueError(f"got floor={floor}, expected a positive number: without one the mass is unbounded")
    _check_degrees(degrees_of_freedom)
    log_chi = (1 - dim / 2) * math.log(2) - math.lgamma(dim / 2) + (dim - 1) / 2 * (math.log(dim - 1) - 1)
    log_peak = _student_t_constant(1, degrees_of_freedom)
    return max(0.0, log_chi + math.log(2 * math.pi) / 2 + log_peak - math.log(floor))


def log_student_t_on_sphere(
    u: Tensor, location: Tensor, scale: Tensor, degrees_of_freedom: float, floor: float
) -> Tensor:
    r"""Log sub-density of a direction: the Student-t of :math:`\mathbb R^d` at unit rows, less ``log K``.

    Its mass over the sphere (surface measure) is at most 1 for every location and every scale of at least ``floor``,
    so a bound on the evidence made with it is a bound for the normalised law that spends the rest elsewhere. In
    high dimension its mass is tiny for scales of order 1: a large constant offset, none of the gradient.

    Shape:
        Unit rows ``u``, ``location``, ``scale`` broadcast to ``(*, d)``; to ``(*,)``.
    Raises:
        ValueError: as :func:`log_subdensity_constant`. The scale is not checked against the floor.
    """
    constant = log_subdensity_constant(u.shape[-1], degrees_of_freedom, floor)
    return log_student_t(u, location, scale, degrees_of_freedom) - constant


def diagonal_gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Divergence of N(m, diag v) from N(0, I): :math:`\tfrac12 \sum_i (v_i + m_i^2 - 1 - \log v_i)`, in nats.

    Scale:
        At least 0; 0 if and only if m = 0 and v = 1.
    Shape:
        Both ``(*, d)`` to ``(*,)``.
    Numerics:
        ``v - 1 - log v`` as ``expm1(a) - a`` with a = log v, exact near v = 1.
    """
    mean, log_variance = wide(mean), wide(log_variance)
    return (torch.expm1(log_variance) - log_variance + mean.square()).sum(-1) / 2


def _check_degrees(degrees_of_freedom: float) -> None:
    if not degrees_of_freedom > 0:
        raise ValueError(
            f"got degrees_of_freedom={degrees_of_freedom}, expected a positive number, such as 5, or math.inf"
        )
