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
    "log_student_t_product",
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
    return log_student_t_of_square(square, dim, degrees_of_freedom) - volume


def log_student_t_of_square(
    square: Tensor, dim: int, degrees_of_freedom: float, scale: float = 1.0
) -> Tensor:
    """:func:`log_student_t` of equal scales at a squared distance ``(*,)`` from the location."""
    nu, constant = degrees_of_freedom, _student_t_constant(dim, degrees_of_freedom) - dim * math.log(scale)
    if math.isinf(nu):
        return torch.rsub(square, constant, alpha=0.5 / scale**2)
    return torch.rsub(torch.log1p(square / (nu * scale**2)), constant, alpha=(nu + dim) / 2)


def log_student_t_product(x: Tensor, location: Tensor, scale: Tensor, degrees_of_freedom: float) -> Tensor:
    r"""Log density of d independent Student-t variables, one a feature, each with its own scale.

    .. math:: \sum_i \Big[ \log \Gamma\tfrac{\nu + 1}{2} - \log \Gamma\tfrac{\nu}{2} - \tfrac12 \log(\nu \pi) - \log s_i
              - \tfrac{\nu + 1}{2} \log\Big(1 + \tfrac1\nu \big(\tfrac{x_i - \mu_i}{s_i}\big)^2\Big) \Big]

    Its gradient weighs each feature by :math:`(\nu + 1)/(\nu + e_i^2/s_i^2)`, where the multivariate law
    (:func:`log_student_t`) weighs all features of a row alike. Both have the Gaussian limit ``math.inf``, and for one
    feature they are the same. Shapes and errors as there.
    """
    _check_degrees(degrees_of_freedom)
    x, location, scale = wide(x), wide(location), wide(scale)
    dim = torch.broadcast_shapes(x.shape, location.shape, scale.shape)[-1]
    square = ((x - location) / scale).square()
    logs = log_student_t_of_square(square, 1, degrees_of_freedom) - scale.log()
    return logs.broadcast_to((*logs.shape[:-1], dim)).sum(-1)


def _student_t_constant(dim: int, nu: float) -> float:
    if math.isinf(nu):
        return -dim / 2 * math.log(2 * math.pi)
    return math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - dim / 2 * math.log(nu * math.pi)


def log_subdensity_constant(
    dim: int, degrees_of_freedom: float, floor: float, *, independent: bool = False
) -> float:
    r"""``log K`` that makes a Student-t density of :math:`\mathbb R^d` a sub-density on the sphere.

    .. math:: K = \max\Big(1, \frac{c_d\, \gamma}{\sigma_{\min}}\Big), \quad
              c_d = \max_r \chi_d(r) = \frac{2^{1 - d/2}}{\Gamma(d/2)} (d-1)^{(d-1)/2} e^{-(d-1)/2}, \quad
              \gamma = \sqrt{2\pi}\, t_\nu(0) = \mathbb E\, \frac{\chi_\nu}{\sqrt\nu}

    for the multivariate law. For ``independent`` features :math:`\gamma` bounds the mean of the largest of d such
    variables, :math:`\big(\mathbb E\, \chi_{\max(\nu, 1)} + \sqrt{2 \log d}\big) / \sqrt\nu`.

    The surface integral of a density of X over the unit sphere is the density of ``|X|`` at 1, which is not a
    probability and may exceed 1. For every mean and every diagonal scale with ``min_i s_i >= floor`` it is at most K.

    Proof: a t variable is a Gaussian of scale ``s_i w_i``, where ``1/w_i`` has the law of chi_nu/sqrt(nu), one for all
    features or independent ones. Given all w, with m the least of them, ``X = Y + floor m N``: N is a standard Gaussian
    independent of Y, since ``s_i w_i >= floor m``. Given Y, ``|X|/(floor m)`` is noncentral chi, a Poisson mixture of
    chi laws of d, d + 2, ... degrees of freedom, and their largest densities fall with the degrees: at most
    ``c_d/(floor m)``. It remains to bound the mean of 1/m. With one w it is the mean of chi_nu/sqrt(nu). With
    independent ones it is that of a maximum. For nu >= 1 the density of chi_nu, proportional to
    ``x^(nu - 1) exp(-x^2/2)``, is log-concave beyond that of a standard Gaussian, so that chi_nu is a 1-Lipschitz
    function of one (Caffarelli) and sub-Gaussian of variance 1 about its mean: the largest of d has a mean of at most
    E chi_nu + sqrt(2 log d). For nu < 1 chi_nu is stochastically smaller than chi_1.

    Raises:
        ValueError: dim < 2, a floor or degrees of freedom that are not positive.
    """
    if dim < 2:
        raise ValueError(f"got dim={dim}, expected the ambient dimension of the sphere, at least 2")
    if not floor > 0:
        raise ValueError(f"got floor={floor}, expected a positive number: without one the mass is unbounded")
    _check_degrees(degrees_of_freedom)
    log_chi = (1 - dim / 2) * math.log(2) - math.lgamma(dim / 2) + (dim - 1) / 2 * (math.log(dim - 1) - 1)
    nu = degrees_of_freedom
    inverse = _mean_of_chi(nu)
    if independent:
        inverse = _mean_of_chi(max(nu, 1.0)) * math.sqrt(max(1.0, 1 / nu)) + math.sqrt(2 * math.log(dim) / nu)
    return max(0.0, log_chi + math.log(inverse) - math.log(floor))


def _mean_of_chi(nu: float) -> float:
    """The mean of a chi variable of nu degrees of freedom over the square root of nu."""
    return math.exp(math.log(2 * math.pi) / 2 + _student_t_constant(1, nu))


def log_student_t_on_sphere(
    u: Tensor,
    location: Tensor,
    scale: Tensor,
    degrees_of_freedom: float,
    floor: float,
    *,
    independent: bool = False,
) -> Tensor:
    r"""Log sub-density of a direction: the Student-t of :math:`\mathbb R^d` at unit rows, less ``log K``.

    The multivariate law, or with ``independent`` features the product of univariate ones. Its mass over the sphere
    (surface measure) is at most 1 for every location and every scale of at least ``floor``, so a bound on the evidence
    made with it is a bound for the normalised law that spends the rest elsewhere. In high dimension its mass is tiny
    for scales of order 1: a large constant offset, none of the gradient.

    Shape:
        Unit rows ``u``, ``location``, ``scale`` broadcast to ``(*, d)``; to ``(*,)``.
    Raises:
        ValueError: as :func:`log_subdensity_constant`. The scale is not checked against the floor.
    """
    density = log_student_t_product if independent else log_student_t
    constant = log_subdensity_constant(u.shape[-1], degrees_of_freedom, floor, independent=independent)
    return density(u, location, scale, degrees_of_freedom) - constant


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
    return torch.addcmul(torch.expm1(log_variance) - log_variance, mean, mean).sum(-1) / 2


def _check_degrees(degrees_of_freedom: float) -> None:
    if not degrees_of_freedom > 0:
        raise ValueError(
            f"got degrees_of_freedom={degrees_of_freedom}, expected a positive number, such as 5, or math.inf"
        )
