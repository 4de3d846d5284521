"""The space S^{d-1}: harmonics, the law of one coordinate, Bessel functions, densities, geometry and sampling.

Pure functions of tensors. ``d`` is the ambient dimension, the uniform law is a probability, and nothing here
knows of kernels, networks or other ranks.
"""

from isosphere.sphere._bessel import log_vmf_normalizer, mean_resultant_length
from isosphere.sphere._densities import (
    log_power_spherical,
    log_spherical_cauchy,
    power_spherical_kl,
)
from isosphere.sphere._elementwise import Elementwise
from isosphere.sphere._geometry import chord, log_norm, log_surface_area, normalize, polar
from isosphere.sphere._harmonics import (
    check_degree,
    check_dim,
    gegenbauer,
    gegenbauer_derivative_at_one,
    gegenbauer_sum,
    harmonic_dimension,
    jacobi_off_diagonal,
    laplacian_eigenvalue,
    log_harmonic_dimension,
    log_harmonic_dimensions,
)
from isosphere.sphere._marginal import log_marginal_density, marginal_cf, marginal_quadrature
from isosphere.sphere._sampling import sample_uniform, sample_vmf

__all__ = [
    "Elementwise",
    "check_degree",
    "check_dim",
    "chord",
    "gegenbauer",
    "gegenbauer_derivative_at_one",
    "gegenbauer_sum",
    "harmonic_dimension",
    "jacobi_off_diagonal",
    "laplacian_eigenvalue",
    "log_harmonic_dimension",
    "log_harmonic_dimensions",
    "log_marginal_density",
    "log_norm",
    "log_power_spherical",
    "log_spherical_cauchy",
    "log_surface_area",
    "log_vmf_normalizer",
    "marginal_cf",
    "marginal_quadrature",
    "mean_resultant_length",
    "normalize",
    "polar",
    "power_spherical_kl",
    "sample_uniform",
    "sample_vmf",
]
