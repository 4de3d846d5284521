"""Points on the unit sphere, and its surface."""

import math

import torch
from torch import Tensor

from isosphere.sphere._harmonics import check_dim

__all__ = [
    "chord",
    "log_norm",
    "log_surface_area",
    "normalize",
    "polar",
]

_SHORTEST = 1e-12
"""Length below which a row counts as this long: its logarithm must stay a number."""


def normalize(z: Tensor) -> Tensor:
    """Put every row on the unit sphere, ``z / |z|``; a zero row stays zero and gets zero gradient.

    Shape:
        (*, d) to (*, d).
    Raises:
        TypeError: z is not floating point.
    Numerics:
        In the dtype of z, float32 at least. Rows are scaled by their largest entry first, so that neither
        1e-30 nor 1e30 under- or overflows in float32.
    Reference:
        SPHERE-JEPA (arXiv 2605.26900), section 3: every view is normalised before both terms.
    """
    if not z.is_floating_point():
        raise TypeError(f"z must be floating point, got {z.dtype}: use z.float()")
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    return _polar(z)[0]


def polar(z: Tensor) -> tuple[Tensor, Tensor]:
    """Direction ``z / |z|`` and logarithm of the length ``log |z|`` of each row.

    Shape:
        ``(*, d)`` to ``(*, d)`` and ``(*,)``.
    Numerics:
        As :func:`normalize`. A row shorter than 1e-12 counts as that long in its logarithm, which has no gradient then.
    """
    direction, square, largest = _polar(z if z.dtype == torch.float64 else z.float())
    return direction, (square.log() / 2 + largest.log()).squeeze(-1).clamp(min=math.log(_SHORTEST))


def log_norm(z: Tensor) -> Tensor:
    """Logarithm of the length of each row, ``log |z|``, of :func:`polar`."""
    return polar(z)[1]


def _polar(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Directions, and largest entries with the squared lengths relative to them: in few operators, for every step of
    every method asks for it.
    """
    # z/|z| does not depend on the length of z, so the scale is a constant for the gradient too.
    largest = z.detach().abs().amax(dim=-1, keepdim=True)
    scaled = z * largest.reciprocal().nan_to_num(nan=math.nan, posinf=0.0)
    # At least 1 but for rounding; 0 of a zero row, which so has no gradient.
    square = scaled.square().sum(dim=-1, keepdim=True).clamp(min=0.5)
    return scaled * torch.rsqrt(square), square, largest


def chord(cosines: Tensor) -> Tensor:
    r"""Euclidean distance of two unit vectors by their cosine, :math:`|x - y| = \sqrt{2 - 2 \langle x, y \rangle}`.

    Scale:
        0 for equal vectors, 1.41 for orthogonal ones, 2 for opposite ones.
    Numerics:
        A cosine that rounding took past 1 has distance 0; in float32 distances below about 5e-4 are rounding.
    """
    return (2 - 2 * cosines).clamp(min=0).sqrt()


def log_surface_area(dim: int) -> float:
    """Logarithm of the surface of S^{d-1}, ``log 2 + (d/2) log pi - log Gamma(d/2)``.

    Scale:
        A log density with respect to the uniform law minus this is one with respect to the surface measure.
    Raises:
        ValueError: dim < 2.
    """
    check_dim(dim)
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
