"""Distances to the nearest other row, with the gradient of both ends."""

from functools import partial

import torch
from torch import Tensor

from isosphere.reductions._collective import Group, first_row, gather_rows, row_counts
from isosphere.reductions._fused import fused
from isosphere.reductions._neighbours import nearest_neighbours


def _log_distance(
    samples: Tensor, wanted: bool, *, floor: float, group: Group
) -> tuple[Tensor, Tensor | None]:
    counts = row_counts(samples.shape[1], samples.device, group)
    everyone = gather_rows(samples, counts, group)
    first = first_row(counts, group)
    own = torch.arange(first, first + samples.shape[1], device=samples.device)
    nearest = own.new_empty(len(samples), len(own), 1)
    for x, others, found in zip(samples, everyone, nearest, strict=True):
        if len(x):
            # A row that is not finite makes the statistic so.
            found.copy_(nearest_neighbours(x, others, 1, exclude=own, finite=True)[1])
    values, gradients = [], []
    for x, found in zip(everyone, gather_rows(nearest, counts, group)[..., 0], strict=True):
        gap = x - x[found]
        distance = gap.square().sum(-1, keepdim=True).sqrt()
        values.append(distance.clamp(min=floor).log().sum())
        if wanted:
            pull = torch.where(distance > floor, gap / distance.square().clamp(min=floor**2), 0)
            gradients.append(pull.index_add(0, found, pull, alpha=-1)[first : first + len(own)])
    return torch.stack(values), torch.stack(gradients) if wanted else None


def _plain_log_distance(z: Tensor, floor: float) -> Tensor:
    itself = torch.eye(z.shape[-2], dtype=torch.bool, device=z.device)
    nearest = (z @ z.mT).detach().masked_fill(itself, -torch.inf).argmax(-1, keepdim=True)
    square = (z - z.take_along_dim(nearest, -2)).square().sum(-1)
    return square.clamp(min=floor**2).log().sum(-1) / 2


def nearest_log_distance(z: Tensor, *, floor: float, group: Group = None) -> Tensor:
    r"""Sum over rows of :math:`\log \max(\min_{j \ne i} |z_i - z_j|, \mathrm{floor})` over the rows of all ranks.

    Shape:
        ``(*views, n, d)`` of unit rows, at least 2 over all ranks -> ``(*views,)``. Distances are taken from
        differences, not from 2 - 2c; a distance at the floor has no gradient. Memory O(n d).
    """
    compute = partial(_log_distance, floor=floor, group=group)
    return fused(z, compute, partial(_plain_log_distance, floor=floor), group)
