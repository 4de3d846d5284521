"""Points on the unit sphere, and its surface."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

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
        1e-30 nor 1e30 under- or overflows in float32. A row without an entry above 2.9e-39 (float64: 5.6e-309), one
        over the largest number, counts as a zero row.
    The result is kept for the gradient: changing it in place before ``backward`` is an error of torch.
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
        As :func:`normalize`. A row shorter than 1e-12 counts as that long in its logarithm, which has no gradient then;
        one longer than the largest number (float32: 3.4e38) has its direction, and infinity for a logarithm.
    """
    direction, length = _polar(z if z.dtype == torch.float64 else z.float())
    return direction, length.squeeze(-1).clamp(min=_SHORTEST).log()


def log_norm(z: Tensor) -> Tensor:
    """Logarithm of the length of each row, ``log |z|``, of :func:`polar`."""
    return polar(z)[1]


def _polar(z: Tensor) -> tuple[Tensor, Tensor]:
    """Directions ``(*, d)`` and lengths ``(*, 1)``."""
    return (_Traced if torch.compiler.is_compiling() else _Polar).apply(z)


class _Polar(torch.autograd.Function):
    r"""``z = r u`` with :math:`du = (dz - u \langle u, dz \rangle)/r` and :math:`dr = \langle u, dz \rangle`, both 0
    at z = 0: a third of the operators of the chain rule, in every step of every method.
    """

    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor]:
        largest = z.abs().amax(dim=-1, keepdim=True)
        scaled = z * largest.reciprocal().nan_to_num(nan=math.nan, posinf=0.0)
        # At least 1 but for rounding; 0 of a zero row.
        inverse = scaled.square().sum(dim=-1, keepdim=True).clamp(min=0.5).rsqrt()
        return scaled * inverse, largest / inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        (u, r), (of_u, of_r) = ctx.saved_tensors, grads
        if of_u is None:
            return None if of_r is None else of_r * u
        across = _across(u, r, of_u)
        return across if of_r is None else torch.addcmul(across, of_r, u)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        with _set_fwd_grad_enabled(True):  # torch switches it off here, and a second one around would find 0
            u, r = _Polar.apply(unpack_dual(ctx.saved_tensors[0]).primal)
            return _across(u, r, tangents[0]), (u * tangents[0]).sum(-1, keepdim=True)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Tensor) -> tuple[Any, tuple[int, int]]:
        return _Polar.apply(args[0].movedim(in_dims[0] or 0, 0)), (0, 0)


class _Traced(_Polar):
    # A compiler refuses functions that bring one.
    jvp = torch.autograd.Function.jvp  # pyright: ignore[reportAssignmentType]


def _across(u: Tensor, r: Tensor, v: Tensor) -> Tensor:
    """The part of v that is tangential at u, over r; 0 where r is, with its derivatives."""
    tangential = torch.addcmul(v, u, (u * v).sum(-1, keepdim=True), value=-1)
    inverse = r.reciprocal()
    if torch.is_grad_enabled():  # differentiated again: no infinity may be met on the way
        return tangential * r.masked_fill(inverse.isinf(), math.inf).reciprocal()
    return tangential * inverse.nan_to_num(nan=math.nan, posinf=0.0)


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
