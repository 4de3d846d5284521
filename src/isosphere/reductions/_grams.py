r"""Means over the pairs of several samples of different sizes, their Gram matrices end to end in one buffer.

What is elementwise is one operator for all of them; of each sample there remain its two products, its lengths and the
sums of its rows. With the cosines :math:`c_{ij} = \langle x_i, x_j \rangle / r_i r_j`,

.. math:: P = \sum_{i \ne j} f(c_{ij}), \qquad \frac{\partial P}{\partial x_i} = 2 \sum_j \frac{S_{ij}}{r_i r_j}\, x_j,
          \qquad S_{ij} = f'(c_{ij}) \ (i \ne j), \quad S_{ii} = -\sum_{j \ne i} f'(c_{ij})\, c_{ij}:

the diagonal takes away what would change the length of a row.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from isosphere.reductions._fused import fused
from isosphere.reductions._pairwise import PairFunction, plain_mean
from isosphere.reductions._precision import double_on_cpu

__all__ = ["cosine_pair_means", "together"]

_PAIRS = 1 << 22
"""In one buffer: 32 MiB of float64."""


def together(samples: Sequence[Tensor]) -> Iterator[list[int]]:
    """Places of neighbouring samples whose pairs are few enough to be computed at once; on a CPU, and for a compiler,
    each is by itself.
    """
    batch, pairs = [], 0
    for place, sample in enumerate(samples):
        alone = sample.device.type == "cpu" or torch.compiler.is_compiling()
        if batch and (alone or pairs + len(sample) ** 2 > _PAIRS):
            yield batch
            batch, pairs = [], 0
        batch.append(place)
        pairs += len(sample) ** 2
    if batch:
        yield batch


def cosine_pair_means(samples: Sequence[Tensor], function: PairFunction, weights: Sequence[float]) -> Tensor:
    r"""Weighted sum over samples of the mean of f over the cosines of all ordered pairs of different rows.

    Args:
        samples: ``(n_l, d_l)`` each, of one type and device; each rank has all of them. A zero row has cosine 0 to all
            others, and no gradient.
        function: ``f(c, order)``, the order-th derivative of f, elementwise; it returns a tensor of its own.
        weights: of the samples.

    Shape:
        A scalar, in the type of the samples.
    Numerics:
        In float64 on a CPU; elsewhere in the type of the samples, in float32 to about 1e-7 of a cosine and with rows
        shorter than 1e-19 counted as zero.
    """
    flat = double_on_cpu(torch.cat([sample.flatten() for sample in samples]))
    shapes, weights = tuple((len(x), x.shape[1]) for x in samples), tuple(weights)
    compute = partial(_sum, shapes=shapes, function=function, weights=weights)
    plain = partial(_plain_sum, shapes=shapes, function=function, weights=weights)
    return fused(flat[None], compute, plain, False).to(samples[0])


def _sum(
    flat: Tensor,
    wanted: bool,
    *,
    shapes: tuple[tuple[int, int], ...],
    function: PairFunction,
    weights: Sequence[float],
) -> tuple[Tensor, Tensor | None]:
    rows, counts = _parts(flat.view(-1), shapes), tuple(n for n, _ in shapes)
    squares, diagonal = [(n, n) for n in counts], _diagonals(counts, flat.device)
    c, scale = flat.new_empty(2, sum(n * n for n in counts))
    for x, gram in zip(rows, _parts(c, squares), strict=True):
        torch.mm(x, x.T, out=gram)
    inverse = c[diagonal].rsqrt().nan_to_num(nan=math.nan, posinf=0.0)
    for one, outer in zip(inverse.split(counts), _parts(scale, squares), strict=True):
        torch.outer(one, one, out=outer)
    c *= scale

    def weighted(order: int) -> Tensor:
        values = function(c, order).index_fill_(0, diagonal, 0)
        of_pair = [2**order * w / (n * (n - 1)) for w, n in zip(weights, counts, strict=True)]
        torch._foreach_mul_(_parts(values, squares), of_pair)  # pyright: ignore[reportPrivateImportUsage]
        return values

    value = weighted(0).sum()[None]
    if not wanted:
        return value, None
    slopes, gradient, lengthwise = weighted(1), torch.empty_like(flat), torch.empty_like(inverse)
    for product, of_rows in zip(_parts(slopes * c, squares), lengthwise.split(counts), strict=True):
        torch.sum(product, 1, out=of_rows)
    slopes.index_copy_(0, diagonal, -lengthwise).mul_(scale)
    for s, x, out in zip(_parts(slopes, squares), rows, _parts(gradient.view(-1), shapes), strict=True):
        torch.mm(s, x, out=out)
    return value, gradient


def _plain_sum(
    flat: Tensor,
    shapes: tuple[tuple[int, int], ...],
    function: PairFunction,
    weights: Sequence[float],
) -> Tensor:
    total = flat.new_zeros(())
    for x, weight in zip(_parts(flat.reshape(-1), shapes), weights, strict=True):
        square = x.square().sum(1, keepdim=True)
        unit = x * torch.where(square > 0, square, math.inf).rsqrt()
        total = total + weight * plain_mean(unit, function, False)
    return total[None]


def _parts(flat: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """What lies end to end, each in its shape."""
    return [x.view(shape) for x, shape in zip(flat.split([n * d for n, d in shapes]), shapes, strict=True)]


@lru_cache(maxsize=64)
def _diagonals(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Where the diagonals of square matrices lie that lie end to end."""
    starts = [0]
    for n in counts:
        starts.append(starts[-1] + n * n)
    places = [start + torch.arange(n) * (n + 1) for start, n in zip(starts, counts, strict=False)]
    with torch.inference_mode(False):
        return torch.cat(places).to(device)
