"""The space S^{d-1}: harmonics, the law of one coordinate, Bessel functions, geometry and sampling.

Pure functions of tensors. ``d`` is the ambient dimension, the uniform law is a probability, and nothing here
knows of kernels, networks or other ranks.
"""

from isosphere.sphere.bessel import log_vmf_normalizer, mean_resultant_length
from isosphere.sphere.geometry import (
    chordal_distance_squared,
    count_zero_rows,
    exponential_map,
    geodesic_distance,
    log_surface_area,
    normalize,
    tangent_projection,
)
from isosphere.sphere.harmonics import (
    gegenbauer,
    gegenbauer_derivative_at_one,
    gegenbauer_sum,
    harmonic_dimension,
    jacobi_off_diagonal,
    laplacian_eigenvalue,
    log_harmonic_dimension,
    log_harmonic_dimensions,
)
from isosphere.sphere.marginal import (
    log_marginal_density,
    marginal_cdf,
    marginal_cf,
    marginal_quadrature,
    marginal_quantile,
)
from isosphere.sphere.sampling import mixed_seed, sample_rotation, sample_uniform, sample_vmf

__all__ = [
    "chordal_distance_squared",
    "count_zero_rows",
    "exponential_map",
    "gegenbauer",
    "gegenbauer_derivative_at_one",
    "gegenbauer_sum",
    "geodesic_distance",
    "harmonic_dimension",
    "jacobi_off_diagonal",
    "laplacian_eigenvalue",
    "log_harmonic_dimension",
    "log_harmonic_dimensions",
    "log_marginal_density",
    "log_surface_area",
    "log_vmf_normalizer",
    "marginal_cdf",
    "marginal_cf",
    "marginal_quadrature",
    "marginal_quantile",
    "mean_resultant_length",
    "mixed_seed",
    "normalize",
    "sample_rotation",
    "sample_uniform",
    "sample_vmf",
    "tangent_projection",
]
