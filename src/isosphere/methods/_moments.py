"""First and second moments of embeddings over the rows of all ranks."""

__all__ = ["NO_SLOPE", "centred", "off_diagonal_square"]

import torch
from torch import Tensor

from isosphere.methods._pairs import row_total
from isosphere.reductions import Group, all_reduce

NO_SLOPE = "none: embeddings are not on the sphere, and the push away from collapse is {push}"


def centred(z: Tensor, group: Group) -> tuple[Tensor, int]:
    """Rows of every view minus their mean over all ranks, and the number of rows over all ranks."""
    n = row_total(z, group)
    if n < 2:
        raise ValueError(f"got {n} row(s), expected at least 2: there is no variance")
    return z - all_reduce(z.sum(1, keepdim=True), group) / n, n


def off_diagonal_square(c: Tensor) -> Tensor:
    """Sum of the squares off the diagonal; ``(*, d, d)`` -> ``(*)``."""
    return (c - torch.diag_embed(c.diagonal(dim1=-2, dim2=-1))).square().sum((-2, -1))
