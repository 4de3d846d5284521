r"""How much the regulariser weighs: two ratios that mean the same for every discrepancy.

``total = (1 - weight) * invariance + weight * regulariser``. Two points of the training say what a weight does.

*At collapse*, with slope :math:`S` of the discrepancy and :math:`a` of the invariance, a feature direction whose share
of variance within images is :math:`r` grows if and only if :math:`r < r^*`, the **expansion ratio**

.. math:: r^* = \frac{w\, S\, (1 - 1/n)}{(1 - w)\, a}.

*When spread*, embeddings hold the variances :math:`\lambda_k` along directions with shares :math:`r_k`. Among
spectra of trace 1 the invariance asks for little :math:`a \sum \lambda_k r_k`, the discrepancy for equal
:math:`\lambda_k`; to second order, where :math:`D \approx c\, \sum \lambda_k^2`, the minimum is water poured
over the shares,

.. math:: \lambda_k \propto (r_c - r_k)_+ ,

with a **cut-off** :math:`r_c`: directions noisier than it are given up. The balanced weight is the one at which
:math:`r_c = 1/2`, that is, a direction is used if and only if at least half of its variance lies between
images, when the shares are spread evenly over [0, 1]. It needs no slope at collapse and no closed form: the
change of :math:`D` with :math:`r_c` is measured on samples of n points, once.

*With random directions* the gradient is a signal and the noise of the slices. The multiple of such a gradient that is
nearest to its mean is the share :math:`s` of the signal (Wiener's factor): the balanced odds :math:`w/(1 - w)` are
multiplied by it. An exact statistic has :math:`s = 1`.
"""

__all__ = [
    "balanced_weight",
    "check_expansion",
    "expansion_ratio",
    "explain_expansion",
    "signal_share",
    "spread_value",
    "weight_of_expansion",
]

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from isosphere.discrepancies import Discrepancy
from isosphere.reductions import full_precision

CUTOFF = 0.5


def expansion_ratio(discrepancy: Discrepancy, weight: float, n: int, invariance_slope: float) -> float:
    """The ratio r* of the module's docstring for ``n`` rows; inf for a discrepancy without a slope at collapse."""
    slope = discrepancy.slope(n) * (1 - 1 / n if discrepancy.self_pairs else 1)
    return math.inf if weight >= 1 else weight * slope / ((1 - weight) * invariance_slope)


def check_expansion(expansion: float) -> None:
    """Raise ValueError unless this can be an expansion ratio."""
    if not 0 < expansion < math.inf:
        raise ValueError(
            f"got expansion={expansion}, expected a positive number; above 1 no collapse is stable"
        )


def weight_of_expansion(discrepancy: Discrepancy, expansion: float, n: int, invariance_slope: float) -> float:
    """The weight whose expansion ratio is ``expansion``, a positive number."""
    check_expansion(expansion)
    slope = discrepancy.slope(n) * (1 - 1 / n if discrepancy.self_pairs else 1)
    if not math.isfinite(slope):
        raise ValueError(
            f"got expansion={expansion} for {type(discrepancy).__name__}, whose slope at collapse is unbounded: "
            "give weight=..., or neither for the balanced weight"
        )
    ratio = expansion * invariance_slope / slope
    return ratio / (1 + ratio)


def explain_expansion(ratio: float, shares: Tensor | None = None) -> str:
    """Say in words what an expansion ratio means, for a network with these within-image shares of variance."""
    if shares is None:
        return f"r* = {ratio:.3g}"
    smallest, growing = shares.min().item(), int((shares < ratio).sum())
    head = (
        f"r* = {ratio:.3g}: a feature direction with less of its variance within images grows from collapse; "
    )
    if ratio < smallest:
        return f"{head}none has (the smallest share is r_min = {smallest:.3g}): raise the weight"
    many = "all" if ratio >= 1 else f"{growing} of {len(shares)}"
    return f"{head}{many} can (the smallest share is r_min = {smallest:.3g})"


def _shares(dim: int) -> Tensor:
    """Shares of variance within images, spread evenly over [0, 1]."""
    return (torch.arange(dim, dtype=torch.float64) + 0.5) / dim


def _spectrum(cutoff: float, dim: int) -> Tensor:
    """Variances of trace 1 along ``dim`` directions: water poured over the shares up to ``cutoff``."""
    poured = (cutoff - _shares(dim)).clamp(min=0)
    return poured / poured.sum()


def _spread(discrepancy: Discrepancy, x: Tensor, cutoff: float) -> Tensor:
    """Gaussian rows ``x`` as embeddings whose spectrum is water poured up to ``cutoff``, in axes of no coordinate where
    that matters.
    """
    z = x * (discrepancy.dim * _spectrum(cutoff, discrepancy.dim)).sqrt().float()
    if not discrepancy.rotation_invariant:
        generator = torch.Generator().manual_seed(1)
        with full_precision(z.device):
            z = z @ torch.linalg.qr(torch.randn(discrepancy.dim, discrepancy.dim, generator=generator)).Q
    return normalize(z) if discrepancy.space == "sphere" else z


@torch.no_grad()
def spread_value(discrepancy: Discrepancy, n: int, cutoff: float = CUTOFF, *, draws: int = 8) -> float:
    """The discrepancy of ``n`` points whose spectrum is water poured up to ``cutoff``: mean of seeded draws."""
    twin = discrepancy.alone()
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for _ in range(draws):
        x = torch.randn(n, discrepancy.dim, generator=generator)
        total += twin(_spread(discrepancy, x, cutoff)).item() / draws
        twin.after_step()
    return total


@torch.inference_mode(False)
@torch.enable_grad()
def signal_share(
    discrepancy: Discrepancy, n: int | None = None, *, z: Tensor | None = None, draws: int = 16
) -> float:
    r"""Share of the signal in the discrepancy's gradient, in (0, 1]; 1 without random directions.

    .. math:: s = \frac{|\mathbb E\, g|^2}{\mathbb E\, |g|^2}

    over directions, with :math:`g` the gradient by the embeddings of one sample: ``n`` points cut off at 1/2, or ``z``.
    The numerator is the mean product of the gradients of different draws, so that it has no noise of its own in the
    mean. With M directions, :math:`1/s - 1` falls like 1/M.

    Args:
        discrepancy: any.
        n: rows of the batch over all ranks, at least 2; not needed with ``z``.
        z: embeddings ``(*views, n, d)`` in the discrepancy's space.
        draws: of the directions.
    """
    if not discrepancy.random:
        return 1.0
    twin = discrepancy.alone()
    if z is None:
        if n is None:
            raise ValueError("got neither n nor z, expected the rows of a batch, or embeddings")
        x = torch.randn(n, discrepancy.dim, generator=torch.Generator().manual_seed(0))
        z = _spread(discrepancy, x, CUTOFF)
    z = z.detach().cpu().float().requires_grad_()
    gradients = []
    with full_precision(z.device):
        for _ in range(draws):
            # Normalised again, so that the gradient is along the sphere.
            value = twin(normalize(z, dim=-1) if discrepancy.space == "sphere" else z).sum()
            gradients.append(torch.autograd.grad(value, z)[0].flatten())
            twin.after_step()
        products = torch.stack(gradients) @ torch.stack(gradients).T
    power = products.trace() / draws
    signal = (products.sum() - products.trace()) / (draws * (draws - 1))
    return (signal / power).clamp(1e-3, 1).item()


def balanced_weight(
    discrepancy: Discrepancy,
    n: int,
    invariance_slope: float,
    *,
    cutoff: float | None = None,
    space: Literal["sphere", "euclidean"] | None = None,
) -> float:
    r"""The weight at which directions with a share of variance within images below ``cutoff`` are used, others not.

    Stationarity along the family of water-filled spectra: :math:`w\, \partial_{r_c} D = -(1 - w)\, a\, \partial_{r_c}
    \sum_k \lambda_k r_k` at ``r_c = cutoff``, both by a central difference with common random numbers.

    Args:
        discrepancy: any.
        n: rows of the batch over all ranks, at least 2.
        invariance_slope: the ``a`` of :func:`~isosphere.methods.invariance_slope`.
        cutoff: in (0, 1]; None: 1/2, and the odds of the weight times :func:`signal_share`, which matters with random
            directions alone.
        space: of the invariance's embeddings, if not the discrepancy's own.
    """
    given, cutoff = cutoff is not None, CUTOFF if cutoff is None else cutoff
    if not 0 < cutoff <= 1:
        raise ValueError(f"got cutoff={cutoff}, expected a share of variance in (0, 1]")
    if n < 2:
        raise ValueError(f"got n={n}, expected at least 2 rows")
    low, high = 0.85 * cutoff, 1.15 * cutoff
    shares = _shares(discrepancy.dim)
    scale = 1.0 if (space or discrepancy.space) == "sphere" else float(discrepancy.dim)
    pull = (
        invariance_slope
        * scale
        * ((_spectrum(high, discrepancy.dim) - _spectrum(low, discrepancy.dim)) @ shares).item()
    )
    push = spread_value(discrepancy, n, low) - spread_value(discrepancy, n, high)
    if push <= 0:
        raise ValueError(
            f"{discrepancy} does not tell a spectrum cut at {low:g} from one cut at {high:g} with n={n} rows: "
            "take a larger batch, a smaller dimension, or give weight=..."
        )
    if not given:
        pull *= signal_share(discrepancy, n)
    return pull / (pull + push)
