"""The kernel that a sliced statistic becomes when it is averaged over all directions."""

from collections.abc import Sequence

from torch import Tensor

from isosphere.kernels._quadrature_rule import QuadratureRuleKernel
from isosphere.kernels._window import GaussianWindowKernel

__all__ = ["InducedKernel"]


def InducedKernel(  # noqa: N802 (the name of the family, which chooses the class)
    dim: int,
    *,
    bandwidth: float | None = None,
    knots: Sequence[float] | Tensor | None = None,
    weights: Sequence[float] | Tensor | None = None,
) -> GaussianWindowKernel | QuadratureRuleKernel:
    """Mean of ``cos(s <x - y, a>)`` over directions a and frequencies s, scaled to 1 at coincidence.

    A statistic ``n sum_k w_k |ecf(s_k) - cf(s_k)|^2`` of the projections, averaged over all directions, is
    exactly ``n sum(w) (1 - p_0)`` times the MMD (scaled to 1 at collapse) of the kernel of the same rule.

    Args:
        dim: ambient dimension d.
        bandwidth: of a Gaussian window, for a :class:`GaussianWindowKernel`; None is sqrt(d).
        knots: frequencies of a rule, for a :class:`QuadratureRuleKernel`.
        weights: the rule's weights, one per knot.

    Raises:
        ValueError: a bandwidth together with a rule, half a rule, and as the two classes.
    Reference:
        arXiv 2606.17603 (the kernel induced by SUSReg).

    Example:
        >>> InducedKernel(64)
        GaussianWindowKernel(dim=64, bandwidth=8.0)
        >>> InducedKernel(64, knots=[8.0, 0.0], weights=[1.0, 1.0])
        QuadratureRuleKernel(dim=64, knots=(0.0, 8.0), knot_weights=(0.5, 0.5))
    """
    if knots is None and weights is None:
        return GaussianWindowKernel(dim, bandwidth)
    if knots is None or weights is None:
        raise ValueError("got half a rule: give both knots and weights, or a bandwidth, or neither")
    if bandwidth is not None:
        raise ValueError("got a bandwidth and a rule: give either bandwidth, or knots and weights")
    return QuadratureRuleKernel(dim, knots, weights)
