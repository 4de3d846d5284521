"""Laws on the sphere in closed form: log densities with respect to the surface measure.

All work in the dtype of their arguments (float32 at least) and are differentiable.
"""

__all__ = ["log_power_spherical", "log_spherical_cauchy", "power_spherical_kl"]

import math

import torch
from torch import Tensor

from isosphere.sphere._geometry import log_surface_area

_ANTIPODAL = 1e-6
"""Least half squared distance from the antipode that a power-spherical density tells apart, in float32."""


def log_spherical_cauchy(u: Tensor, location: Tensor, rho: float) -> Tensor:
    r"""Log density of the spherical Cauchy law: heavy-tailed and exactly normalised.

    .. math:: p(u) = \frac{1}{|S^{d-1}|} \Big(\frac{1 - \rho^2}{1 + \rho^2 - 2 \rho \langle u, \mu \rangle}\Big)^{d-1}

    Shape:
        unit rows ``u`` and ``location`` broadcast, ``(*, d)`` -> ``(*,)``. ``rho`` in [0, 1); 0 is the uniform law.
    Raises:
        ValueError: rho outside [0, 1).
    Numerics:
        the denominator as ``(1 - rho)^2 + rho |u - mu|^2``, which loses nothing near the centre.
    Reference:
        Kato and McCullagh, Some properties of a Cauchy family on the sphere (2020), eq. 1.
    """
    if not 0 <= rho < 1:
        raise ValueError(f"got rho={rho}, expected a number in [0, 1), such as 0.8")
    u, location = _wide(u), _wide(location)
    dim = u.shape[-1]
    apart = (u - location).square().sum(-1)
    peak = math.log1p(rho) - math.log1p(-rho)  # log of (1 - rho^2)/(1 - rho)^2
    tail = torch.log1p(apart * (rho / (1 - rho) ** 2))
    return torch.rsub(tail, (dim - 1) * peak - log_surface_area(dim), alpha=dim - 1)


def log_power_spherical(u: Tensor, location: Tensor, concentration: Tensor) -> Tensor:
    r"""Log density of the power-spherical law, a stand-in for the von Mises-Fisher law with a simple normaliser.

    .. math:: p(u) = \frac{(1 + \langle u, \mu \rangle)^\kappa}{C(\kappa)}, \quad
              C = 2^{\alpha + \beta} \pi^\beta \frac{\Gamma(\alpha)}{\Gamma(\alpha + \beta)}, \quad
              \alpha = \beta + \kappa, \ \beta = \frac{d - 1}{2}

    Shape:
        unit rows ``u``, ``location`` ``(*, d)`` and ``concentration`` ``(*,)`` broadcast -> ``(*,)``; the
        concentration is positive, 0 is the uniform law.
    Numerics:
        ``1 + c`` as ``|u + mu|^2 / 2``, not below 1e-6; the normaliser in float64 where there is one.
    Reference:
        De Cao and Aziz, The Power Spherical distribution (2020), definition 1.
    """
    u, location = _wide(u), _wide(location)
    sum_square = ((u + location).square().sum(-1) / 2).clamp(min=_ANTIPODAL)
    kappa = _wide(concentration)
    return kappa * sum_square.log() - _power_spherical_normalizer(kappa, u.shape[-1]).to(kappa.dtype)


def power_spherical_kl(concentration: Tensor, dim: int) -> Tensor:
    r"""Kullback-Leibler divergence of the power-spherical law to the uniform law, ``log |S^{d-1}| - entropy``.

    .. math:: \mathrm{KL} = \kappa\,(\log 2 + \psi(\alpha) - \psi(\alpha + \beta)) - \log C(\kappa) + \log |S^{d-1}|

    Shape:
        ``(*,)`` -> ``(*,)``.
    Scale:
        Nats, 0 at concentration 0.
    Numerics:
        In float64 where there is one.
    Reference:
        De Cao and Aziz (2020), eq. 20.
    """
    kappa = _wide(concentration)
    wide = _widest(kappa)
    beta = (dim - 1) / 2
    mean_log = math.log(2) + torch.digamma(wide + beta) - torch.digamma(wide + 2 * beta)
    value = wide * mean_log - _power_spherical_normalizer(kappa, dim) + log_surface_area(dim)
    return value.to(kappa.dtype)


def _power_spherical_normalizer(kappa: Tensor, dim: int) -> Tensor:
    """log C: differences of large lgamma, so in float64."""
    wide = _widest(kappa)
    beta = (dim - 1) / 2
    ratio = torch.lgamma(wide + beta) - torch.lgamma(wide + 2 * beta)
    return (wide + 2 * beta) * math.log(2) + beta * math.log(math.pi) + ratio


def _widest(x: Tensor) -> Tensor:
    return x.float() if x.device.type == "mps" else x.double()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
