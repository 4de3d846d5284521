"""Distances to the nearest other row, with the gradient of both ends."""

import torch
from torch import Tensor

from isosphere.reductions._collective import Group, all_reduce, first_row, gather_rows, row_counts
from isosphere.reductions._neighbours import nearest_neighbours
from isosphere.reductions._pairwise import as_samples


class _NearestLogDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, floor: float, group: Group):
        counts = row_counts(x.shape[0], x.device, group)
        everyone = gather_rows(x, counts, group)
        first = first_row(counts, group)
        own = torch.arange(first, first + x.shape[0], device=x.device)
        nearest = own.new_empty(x.shape[0], 1)
        if x.shape[0]:
            nearest = nearest_neighbours(x, everyone, 1, exclude=own)[1]
        nearest = gather_rows(nearest, counts, group)[:, 0]
        gap = everyone - everyone[nearest]
        distance = gap.square().sum(-1, keepdim=True).sqrt()
        ctx.save_for_backward(gap, distance, nearest)
        ctx.own, ctx.floor, ctx.group = slice(first, first + x.shape[0]), floor, group
        return distance.clamp(min=floor).log().sum()

    @staticmethod
    def backward(ctx, *grads: Tensor):
        gap, distance, nearest = ctx.saved_tensors
        pull = torch.where(distance > ctx.floor, gap / distance.square().clamp(min=ctx.floor**2), 0)
        gradient = pull.index_add(0, nearest, pull, alpha=-1)
        return all_reduce(grads[0], ctx.group) * gradient[ctx.own], None, None


def nearest_log_distance(z: Tensor, *, floor: float, group: Group = None) -> Tensor:
    r"""Sum over rows of :math:`\log \max(\min_{j \ne i} |z_i - z_j|, \mathrm{floor})` over the rows of all ranks.

    Shape: ``(*views, n, d)`` of unit rows, at least 2 over all ranks -> ``(*views,)``. Distances are taken from
    differences, not from 2 - 2c; a distance at the floor has no gradient. Memory O(n d).
    """
    values = [_NearestLogDistance.apply(x, floor, group) for x in as_samples(z)]
    return torch.stack(values).reshape(z.shape[:-2])
