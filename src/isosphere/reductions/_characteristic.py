r"""Empirical characteristic functions of projections, compared with a target, without keeping rows x slices x knots.

For directions :math:`a_m`, projections :math:`x_{im} = \langle z_i, a_m \rangle` and equispaced knots
:math:`s_k = k\,\Delta` (:math:`k = 1..K`),

.. math:: T = \frac1M \sum_m \sum_k w_k \Big[ (C_{km} - \varphi_k)^2 + S_{km}^2 \Big], \quad
          C_{km} = \frac1n \sum_i \cos s_k x_{im}, \; S_{km} = \frac1n \sum_i \sin s_k x_{im}.

Cosines and sines of the multiples come from those of the first knot by Chebyshev's recurrence. The gradient
projects and recurs again, slice block by slice block; between the passes only ``C`` and ``S`` live.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from isosphere.reductions._collective import Group, all_reduce, row_counts
from isosphere.reductions._fused import fused

# Elements of one (rows x slices) block; several of these are alive at once.
_BLOCK = {"cpu": 1 << 17}
_LARGE_BLOCK = 1 << 24


def _blocks(samples: Tensor, slices: int) -> Iterator[tuple[slice, slice]]:
    """Views and slices that are projected together: on a CPU one view, elsewhere all, which spares launches."""
    device, (views, rows, _) = samples.device, samples.shape
    together = 1 if device.type == "cpu" else max(views, 1)
    step = max(1, _BLOCK.get(device.type, _LARGE_BLOCK) // max(rows * together, 1))
    for first in range(0, views, together):
        for start in range(0, slices, step):
            yield slice(first, first + together), slice(start, min(start + step, slices))


def _multiples(x: Tensor, spacing: float, knots: int) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield (sign, sign * cos k spacing x, sign * sin k spacing x) for k = 1..knots, in two buffers each.

    Chebyshev's recurrence ``c_{k+1} = 2 cos(spacing x) c_k - c_{k-1}``, one fused operation a knot; the alternating
    sign is what lets it run in place. The yielded tensors are overwritten two knots later.
    """
    angle = spacing * x
    cos, sin = angle.cos(), angle.sin_()
    twice = 2 * cos
    before = (torch.ones_like(cos), torch.zeros_like(sin))
    now = (cos, sin)
    sign = 1.0
    for k in range(1, knots + 1):
        if k > 1:
            step = -1 if k % 2 == 0 else 1
            sign = -sign if k % 2 == 0 else sign
            after = tuple(
                torch.addcmul(b, twice, n, value=step, out=b) for b, n in zip(before, now, strict=True)
            )
            before, now = now, after
        yield sign, now[0], now[1]


def _distance(
    samples: Tensor,
    wanted: bool,
    *,
    directions: Tensor,
    spacing: float,
    weights: Tensor,
    target: Tensor,
    group: Group,
) -> tuple[Tensor, Tensor | None]:
    n, knots, slices = sum(row_counts(samples.shape[1], samples.device, group)), len(weights), len(directions)
    moments = samples.new_empty(len(samples), 2, knots, slices)
    for views, block in _blocks(samples, slices):
        moment = moments[views, :, :, block]
        for k, (sign, cos, sin) in enumerate(
            _multiples(samples[views] @ directions[block].T, spacing, knots)
        ):
            torch.sum(cos, 1, out=moment[:, 0, k])
            torch.sum(sin, 1, out=moment[:, 1, k])
            if sign < 0:
                moment[:, :, k].neg_()
    moments = all_reduce(moments, group) / n
    moments[:, 0] -= target[:, None]
    value = torch.einsum("vrkm,vrkm,k->v", moments, moments, weights) / slices
    if not wanted:
        return value, None
    # d/dx of w (C^2 + S^2): 2 w s (S cos s x - C sin s x) / n
    steps = spacing * torch.arange(1, knots + 1, device=samples.device, dtype=samples.dtype)
    factors = moments * (2 * weights * steps / (n * slices))[:, None]
    gradient = torch.zeros_like(samples)
    for views, block in _blocks(samples, slices):
        projections, factor = samples[views] @ directions[block].T, factors[views, :, :, None, block]
        slopes = torch.zeros_like(projections)
        for k, (sign, cos, sin) in enumerate(_multiples(projections, spacing, knots)):
            slopes.addcmul_(cos, factor[:, 1, k], value=sign)
            slopes.addcmul_(sin, factor[:, 0, k], value=-sign)
        gradient[views].flatten(0, 1).addmm_(slopes.flatten(0, 1), directions[block])
    return value, gradient


def _plain_distance(z: Tensor, directions: Tensor, spacing: float, weights: Tensor, target: Tensor) -> Tensor:
    steps = spacing * torch.arange(1, len(weights) + 1, device=z.device, dtype=z.dtype)
    angles = (z @ directions.T).unsqueeze(-3) * steps[:, None, None]
    real, imaginary = angles.cos().mean(-2) - target[:, None], angles.sin().mean(-2)
    return ((real.square() + imaginary.square()).mean(-1) * weights).sum(-1)


def sliced_characteristic_distance(
    z: Tensor, directions: Tensor, *, spacing: float, weights: Tensor, target: Tensor, group: Group = None
) -> Tensor:
    r"""Mean over directions of the weighted squared distance between empirical and target characteristic functions.

    Args:
        z: shape ``(*views, n, d)``, rows of this rank; the empirical functions are those of all ranks of ``group``.
        directions: shape ``(slices, d)``, the same on every rank.
        spacing: knots are ``spacing * (1, ..., K)``; a symmetric rule over the whole line doubles the weights of the
            positive half (the distance is even, and zero at the origin).
        weights: shape ``(K,)``. target: shape ``(K,)``, real and even characteristic function at the knots.
    Returns:
        shape ``(*views,)``, without any factor ``n``. Memory: one (n x slices) block and ``O(K slices)``.
    """
    rule = {"directions": directions, "spacing": spacing, "weights": weights, "target": target}
    return fused(z, partial(_distance, **rule, group=group), partial(_plain_distance, **rule), group)
