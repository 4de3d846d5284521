"""Spherical harmonics on S^{d-1} by level: dimensions, eigenvalues, Gegenbauer polynomials, P_l(1) = 1."""

import math
from functools import lru_cache
from typing import overload

import torch
from torch import Tensor

__all__ = [
    "gegenbauer",
    "gegenbauer_derivative_at_one",
    "gegenbauer_sum",
    "harmonic_dimension",
    "jacobi_off_diagonal",
    "laplacian_eigenvalue",
    "log_harmonic_dimension",
    "log_harmonic_dimensions",
]


def check_dim(dim: int) -> None:
    """Refuse anything that is not an ambient dimension."""
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"dim must be an int, got {dim!r}: pass the ambient dimension, e.g. dim=z.shape[-1]")
    if dim < 2:
        raise ValueError(
            f"dim must be at least 2 (the circle), got {dim}: pass the ambient dimension of S^(dim-1)"
        )


def check_degree(degree: int, name: str = "degree") -> None:
    """Refuse anything that is not a degree of a polynomial."""
    if not isinstance(degree, int) or isinstance(degree, bool):
        raise TypeError(f"{name} must be an int, got {degree!r}")
    if degree < 0:
        raise ValueError(f"{name} must be 0 or more, got {degree}")


def harmonic_dimension(degree: int, dim: int) -> int:
    """Number of linearly independent harmonics of one degree, as an exact integer.

    ``N(l, d) = C(l+d-1, d-1) - C(l+d-3, d-1)``; for d = 2: 1, 2, 2, ...

    Raises:
        ValueError: dim < 2 or degree < 0.
    Reference:
        Atkinson & Han, Spherical Harmonics and Approximations on the Unit Sphere, 2012, section 2.1 (their
        N_{n,d}, n = our degree l).
    """
    check_dim(dim)
    check_degree(degree)
    return _dimensions(degree, dim)[degree]


@lru_cache(maxsize=256)
def _dimensions(max_degree: int, dim: int) -> tuple[int, ...]:
    """N(0..L, d) by the exact integer recurrence of neighbouring degrees."""
    dimensions = [1, dim] if dim > 2 else [1, 2]
    for l in range(1, max_degree):
        dimensions.append(dimensions[l] * (2 * l + dim) * (l + dim - 2) // ((2 * l + dim - 2) * (l + 1)))
    return tuple(dimensions[: max_degree + 1])


@lru_cache(maxsize=256)
def _log_dimensions(max_degree: int, dim: int) -> Tensor:
    return torch.tensor(
        [math.log(n) for n in _dimensions(max_degree, dim)], dtype=torch.float64, device="cpu"
    )


def log_harmonic_dimensions(max_degree: int, dim: int) -> Tensor:
    """Logarithms of ``N(0, d), ..., N(L, d)``, shape (L + 1,), float64 on the CPU.

    Numerics:
        The logarithm of an exact integer: one rounding, at every dimension and degree.
    """
    check_dim(dim)
    check_degree(max_degree, "max_degree")
    return _log_dimensions(max_degree, dim).clone()


@overload
def log_harmonic_dimension(degree: int, dim: int) -> float: ...
@overload
def log_harmonic_dimension(degree: Tensor, dim: int) -> Tensor: ...
def log_harmonic_dimension(degree: int | Tensor, dim: int) -> float | Tensor:
    """Logarithm of the number of harmonics of one degree, ``log N(l, d)``.

    ``N(l, d) = (2l+d-2) (l+d-3)! / (l! (d-2)!)``.

    Shape:
        An int gives a float; an integer tensor gives a float64 tensor of its shape.
    Raises:
        TypeError, ValueError: a degree that is not a whole number of 0 or more; dim < 2.
    Numerics:
        The logarithm of an exact integer (N overflows float32 at l = 19, d = 1024).
    Reference:
        Atkinson & Han 2012, section 2.1.
    """
    check_dim(dim)
    if isinstance(degree, Tensor):
        table = _log_dimensions(_highest(degree), dim)
        return table.to(degree.device)[degree.long()]
    return math.log(harmonic_dimension(degree, dim))


@overload
def laplacian_eigenvalue(degree: int, dim: int) -> int: ...
@overload
def laplacian_eigenvalue(degree: Tensor, dim: int) -> Tensor: ...
def laplacian_eigenvalue(degree: int | Tensor, dim: int) -> int | Tensor:
    """Eigenvalue of minus the Laplace–Beltrami operator on the harmonics of one degree.

    ``lambda_l = l (l + d - 2)``.

    Shape:
        An int gives an int; an integer tensor gives a float64 tensor of its shape.
    Raises:
        TypeError, ValueError: a degree that is not a whole number of 0 or more; dim < 2.
    Reference:
        Atkinson & Han 2012, section 3.3.
    """
    check_dim(dim)
    if isinstance(degree, Tensor):
        _highest(degree)
        l = degree.to(torch.float64)
        return l * (l + dim - 2)
    check_degree(degree)
    return degree * (degree + dim - 2)


def _highest(degree: Tensor) -> int:
    if degree.is_floating_point() or degree.is_complex() or degree.dtype == torch.bool:
        raise TypeError(f"degree must be an integer tensor, got {degree.dtype}: use degree.long()")
    if degree.numel() == 0:
        return 0
    if int(degree.min()) < 0:
        raise ValueError(f"degree must be 0 or more, got {int(degree.min())}")
    return int(degree.max())


def gegenbauer(t: Tensor, max_degree: int, dim: int) -> Tensor:
    """Gegenbauer (ultraspherical) polynomials of degrees 0 to L, normalised to ``P_l(1) = 1``.

    ``(l+d-2) P_{l+1}(t) = (2l+d-2) t P_l(t) - l P_{l-1}(t)``, ``P_0 = 1``, ``P_1 = t``.

    Shape:
        ``t`` of shape ``(*t)``, values in [-1, 1]; returns ``(*t, L + 1)``.
    Raises:
        TypeError: t is not floating point. ValueError: dim < 2 or max_degree < 0.
    Numerics:
        The forward recurrence is stable on [-1, 1]; in the dtype of t, float32 at least; differentiable.
        Monomial coefficients would be useless from d = 128, degree 10.
    Reference:
        DLMF 18.9.1 with Table 18.9.1; our ``P_l = C_l^(d/2-1) / C_l^(d/2-1)(1)``.
    """
    t = _prepare(t, max_degree, dim)
    values = [torch.ones_like(t)]
    if max_degree:
        values.append(t)
    for l in range(1, max_degree):
        values.append(((2 * l + dim - 2) * t * values[l] - l * values[l - 1]) / (l + dim - 2))
    return torch.stack(values, dim=-1)


def gegenbauer_sum(t: Tensor, coefficients: Tensor, dim: int) -> Tensor:
    """Gegenbauer series ``sum_l coefficients[l] P_l(t)`` without the table of polynomials.

    Shape:
        ``t`` of shape ``(*t)``, ``coefficients`` ``(L + 1,)``; returns ``(*t)``.
    Raises:
        TypeError: t is not floating point. ValueError: dim < 2 or no coefficients.
    Numerics:
        Forward recurrence in the dtype of t (float32 at least). With coefficients of one sign the error is a
        few units in the last place of ``sum |coefficients|``.
    Reference:
        The recurrence of :func:`gegenbauer`.
    """
    if coefficients.ndim != 1 or coefficients.numel() == 0:
        raise ValueError(f"coefficients must have shape (max_degree + 1,), got {tuple(coefficients.shape)}")
    t = _prepare(t, coefficients.numel() - 1, dim)
    a = coefficients.tolist()
    before, now = torch.zeros_like(t), torch.ones_like(t)
    total = now * a[0]
    for l in range(len(a) - 1):
        # l = 0 would be 0/0 for d = 2: P_1 = t is written out.
        after = t if l == 0 else ((2 * l + dim - 2) * t * now - l * before) / (l + dim - 2)
        before, now = now, after
        total = total + a[l + 1] * now
    return total


def _prepare(t: Tensor, max_degree: int, dim: int) -> Tensor:
    check_dim(dim)
    check_degree(max_degree, "max_degree")
    if not t.is_floating_point():
        raise TypeError(f"t must be a floating-point tensor of cosines, got {t.dtype}: use t.float()")
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def gegenbauer_derivative_at_one(max_degree: int, dim: int, order: int = 1) -> Tensor:
    """Derivatives at the pole, ``P_l^(m)(1)`` for l = 0 to L, shape (L + 1,), float64.

    ``P_l^(m)(t) = P_l^(m)(1) P^{(d+2m)}_{l-m}(t)`` with
    ``P_l^(m)(1) = prod_{j<m} (l-j)(l+d-2+j)/(d-1+2j)``: a derivative is a series in dimension d + 2m.

    Raises:
        ValueError: dim < 2, max_degree < 0 or order < 0.
    Reference:
        DLMF 18.9.19, applied m times.
    """
    check_dim(dim)
    check_degree(max_degree, "max_degree")
    check_degree(order, "order")
    l = torch.arange(max_degree + 1, dtype=torch.float64, device="cpu")
    value = torch.ones_like(l)
    for j in range(order):
        value = value * (l - j).clamp(min=0) * (l + dim - 2 + j) / (dim - 1 + 2 * j)
    return value


def jacobi_off_diagonal(size: int, dim: int) -> Tensor:
    """Off-diagonal of the Jacobi matrix of the marginal law: ``t e_l = b_{l+1} e_{l+1} + b_l e_{l-1}``.

    ``b_l = sqrt(l (l+d-3) / ((2l+d-2)(2l+d-4)))`` for the orthonormal ``e_l = sqrt(N(l, d)) P_l``; d = 2: b_1
    = sqrt(1/2), then 1/2.

    Shape:
        Returns b_1, ..., b_size, shape (size,), float64.
    Reference:
        Golub & Welsch, Math. Comp. 23 (1969), section 4.
    """
    check_dim(dim)
    check_degree(size, "size")
    l = torch.arange(1, size + 1, dtype=torch.float64, device="cpu")
    if dim == 2:
        b = torch.full_like(l, 0.5)
        b[:1] = math.sqrt(0.5)
        return b
    return torch.sqrt(l * (l + dim - 3) / ((2 * l + dim - 2) * (2 * l + dim - 4)))
