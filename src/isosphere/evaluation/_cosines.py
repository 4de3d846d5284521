"""Cosines for rankings: float64, and equal where a float32 network cannot tell directions apart."""

import torch
from torch import Tensor
from torch.nn import functional

# Directions that differ by less than about 4e-6 have the same cosine with themselves and each other on this
# grid. That is the rounding of a float32 network, which depends on the position in a batch and would identify
# a collapsed image.
_GRID = 2.0**-36


def on_grid(cosines: Tensor) -> Tensor:
    """Cosines as whole multiples of 2^-36, so that `==` says which are ties. In float64."""
    return (cosines / _GRID).round_()


def unit_rows(x: Tensor, name: str) -> Tensor:
    """Rows of norm 1 in float64; a zero row stays zero. Raises: ValueError if a number is not finite."""
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{name}: got non-finite numbers, expected finite ones; drop or repair these rows first"
        )
    return functional.normalize(x.double(), dim=1)
