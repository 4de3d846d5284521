"""Points, distances and tangents on the unit sphere, finite at coincident and antipodal points."""

import math

import torch
from torch import Tensor

from isosphere.sphere.harmonics import check_dim

__all__ = [
    "chordal_distance_squared",
    "count_zero_rows",
    "exponential_map",
    "geodesic_distance",
    "log_surface_area",
    "normalize",
    "tangent_projection",
]


def normalize(z: Tensor) -> Tensor:
    """Put every row on the unit sphere, ``z / |z|``; a zero row stays zero and gets zero gradient.

    Shape:
        (*, d) to (*, d).
    Raises:
        TypeError: z is not floating point.
    Numerics:
        In the dtype of z, float32 at least. Rows are scaled by their largest entry first, so that neither
        1e-30 nor 1e30 under- or overflows in float32. :func:`count_zero_rows` counts the rows that have no
        direction.
    Reference:
        SPHERE-JEPA (arXiv 2605.26900), section 3: every view is normalised before both terms.
    """
    if not z.is_floating_point():
        raise TypeError(f"z must be floating point, got {z.dtype}: use z.float()")
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    # z/|z| does not depend on the length of z, so the scale is a constant for the gradient too.
    largest = z.detach().abs().amax(dim=-1, keepdim=True)
    empty = largest == 0
    scaled = z * torch.where(
        empty, torch.zeros_like(largest), 1 / torch.where(empty, torch.ones_like(largest), largest)
    )
    square = scaled.square().sum(dim=-1, keepdim=True)
    return scaled * torch.rsqrt(torch.where(empty, torch.ones_like(square), square))


def count_zero_rows(z: Tensor) -> Tensor:
    """Number of rows that are exactly zero and so have no direction, a 0-d int64 tensor.

    Shape:
        (*, d) to ().
    """
    return (z.detach() == 0).all(dim=-1).sum()


def chordal_distance_squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared chord between matching unit rows, ``|x - y|^2 = 2 - 2 <x, y>``, from differences.

    Shape:
        x and y broadcast, (*, d) to (*).
    Numerics:
        ``2 - 2c`` in float32 loses close pairs; the sum of squared differences does not.
    """
    return (x - y).square().sum(dim=-1)


def geodesic_distance(x: Tensor, y: Tensor) -> Tensor:
    """Angle between matching unit rows, ``2 atan2(|x - y|, |x + y|)``, in [0, pi].

    Shape:
        x and y broadcast, (*, d) to (*).
    Numerics:
        Accurate at all angles (arccos loses half of the digits near 0 and pi). At coincident or antipodal
        points the distance has no gradient; zero is returned there, never NaN.
    Reference:
        Kahan, How futile are mindless assessments of roundoff, 2006, section 12.
    """
    return 2 * torch.atan2(_length(x - y), _length(x + y))


def _length(v: Tensor) -> Tensor:
    square = v.square().sum(dim=-1)
    zero = square == 0
    return torch.where(
        zero, torch.zeros_like(square), torch.where(zero, torch.ones_like(square), square).sqrt()
    )


def tangent_projection(x: Tensor, v: Tensor) -> Tensor:
    """Part of v tangent to the sphere at the unit rows x, ``v - <v, x> x``.

    Shape:
        x and v broadcast, (*, d) to (*, d).
    """
    return v - (v * x).sum(dim=-1, keepdim=True) * x


def exponential_map(x: Tensor, v: Tensor) -> Tensor:
    """End of the geodesic that starts at x with velocity v, ``cos|v| x + sin|v| v/|v|``.

    Shape:
        Unit rows x (*, d) and tangent rows v (*, d) to unit rows (*, d).
    Numerics:
        ``torch.sinc``, so that v = 0 is an ordinary point.
    """
    length = _length(v).unsqueeze(-1)
    return torch.cos(length) * x + torch.sinc(length / math.pi) * v


def log_surface_area(dim: int) -> float:
    """Logarithm of the surface of S^{d-1}, ``log 2 + (d/2) log pi - log Gamma(d/2)``.

    Scale:
        A log density with respect to the uniform law minus this is one with respect to the surface measure.
    Raises:
        ValueError: dim < 2.
    """
    check_dim(dim)
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
