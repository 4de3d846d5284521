"""Sliced tests: the Epps-Pulley statistic of random projections (SUSReg on the sphere, SIGReg in space)."""

__all__ = ["SIGReg", "SUSReg"]

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from isosphere.devices import constant
from isosphere.discrepancies._directed import Directed
from isosphere.kernels import QuadratureRuleKernel
from isosphere.reductions import Group, outside_transforms, sliced_characteristic_distance
from isosphere.sphere import marginal_cf

Estimator = Literal["v", "u"]


class _Sliced(Directed):
    """n times the mean over directions of a trapezoid rule for the weighted distance of characteristic functions.

    As a V-statistic ``|ecf - cf|^2``, whose diagonal, 1/n of each ``|ecf|^2``, is a bias; as a U-statistic
    ``(n |ecf|^2 - 1)/(n - 1) - 2 cf Re ecf + cf^2``, without it.
    """

    def __init__(
        self,
        dim: int,
        num_slices: int,
        knots: int,
        reach: float,
        scale: float,
        seed: int,
        estimator: Estimator,
        group: Group,
    ):
        super().__init__(dim, num_slices, seed, group)
        if estimator not in ("v", "u"):
            raise ValueError(f"got estimator={estimator!r}, expected 'v' (diagonal included) or 'u' (i != j)")
        self.estimator, self.self_pairs = estimator, estimator == "v"
        if knots < 3 or knots % 2 == 0:
            raise ValueError(
                f"got knots={knots}, expected an odd number, at least 3, so that 0 is a knot (the papers: 17)"
            )
        if not reach > 0 or not scale > 0:
            raise ValueError(f"got reach={reach}, scale={scale}, expected positive numbers")
        self.knots, self.reach, self.scale = knots, reach, scale
        half = knots // 2
        self.spacing = reach / half
        self._points = self.spacing * torch.arange(1, half + 1, dtype=torch.float64)
        rule = 2 * self.spacing * torch.exp(-self._points.square() / 2)
        rule[-1] /= 2
        self._rule = rule  # both halves of the line; the knot at 0 contributes nothing

    @abstractmethod
    def target(self) -> Tensor:
        """Characteristic function of the target's projections at the positive knots, float64 ``(knots // 2,)``."""

    def _statistic(self, z: Tensor) -> Tensor:
        n = self.count(z)
        factor, completed, excess = self._completed(n)
        with outside_transforms():  # a backward pass may come when they are over
            numbers = (tuple(x.tolist()) for x in (self._rule, completed))
            weights, target = (constant(x, z.device, z.dtype) for x in numbers)
        distance = sliced_characteristic_distance(
            z * self.scale if self.scale != 1 else z,
            self.directions(z),
            spacing=self.spacing,
            weights=weights,
            target=target,
            group=self.group,
        )
        return n * distance if self.self_pairs else n * (factor * distance - excess)

    def _completed(self, n: int) -> tuple[float, Tensor, float]:
        """The statistic as ``factor |ecf - target|^2`` at each knot less a constant, a U-statistic by completing the
        square. Raises: ValueError for a U-statistic of fewer than two rows.
        """
        target = self.target()
        if self.self_pairs:
            return 1.0, target, 0.0
        if n < 2:
            raise ValueError(f"got {n} row(s), expected at least 2: a U-statistic is of pairs i != j")
        factor = n / (n - 1)
        excess = target.square() / factor + 1 / (n - 1) - target.square()
        return factor, target / factor, (self._rule * excess).sum().item()

    def reference(self, z: Tensor) -> Tensor:
        n, knots = z.shape[-2], self._points[:, None, None].to(z)
        angles = knots * self.scale * (z @ self.directions(z).mT).unsqueeze(-3)
        real = angles.cos().mean(-2) - self.target()[:, None].to(z)
        imaginary = angles.sin().mean(-2)
        distance = real**2 + imaginary**2
        if not self.self_pairs:  # of |ecf|^2 the pairs of a row with itself are 1/n
            square = angles.cos().mean(-2) ** 2 + imaginary**2
            distance = distance - (1 - square) / (n - 1)
        return n * (self._rule.to(z)[:, None] * distance).sum(-2).mean(-1)

    def extra_repr(self) -> str:
        rule = f"knots={self.knots}, reach={self.reach:g}, scale={self.scale:g}"
        pairs = "" if self.self_pairs else ", estimator='u'"
        return f"dim={self.dim}, num_slices={self.num_slices}, {rule}{pairs}"


class SUSReg(_Sliced):
    r"""Sliced test of uniformity: Epps-Pulley distance of projections to the law of one coordinate on the sphere.

    .. math:: T = n\, \frac1M \sum_m \int \big| \hat\varphi_{n}(s; a_m) - \varphi_d(s) \big|^2 e^{-s^2/2}\, ds, \quad
              \varphi_d(s) = {}_0F_1(; d/2; -s^2 \mathrm{scale}^2 / 4)

    with :math:`\hat\varphi_n` the empirical characteristic function of ``scale * <z_i, a_m>`` over the batch of
    all ranks, directions :math:`a_m` uniform, and the integral by the trapezoid rule. The mean over directions is
    exactly ``n * sum_k w_k * (1 - p_0) * MMD(self.kernel())``.

    Args:
        dim: ambient dimension d.
        num_slices: M.
        knots: of the rule, an odd number.
        reach: of the rule, on ``[-reach, reach]``.
        scale: of the projections. *The paper leaves it and the factor n open*: None is sqrt(d), at which they are
            close to N(0, 1); on unscaled vectors the statistic only tests the mean.
        target: ``"gaussian"`` takes :math:`N(0, \mathrm{scale}^2/d)` instead (the paper's choice for d > 256).
        seed: of the directions.
        estimator: ``"v"`` as above; ``"u"`` without the pairs of a row with itself (unbiased: 0 in the mean for uniform
            points, negative values allowed; 2610.10299, equation 10).
        group: the ranks whose rows are the sample.

    Scale:
        At uniformity the mean is ``sum_k w_k (1 - varphi^2)`` (about 1 for scale = sqrt(d)) whatever n; at collapse it
        grows like n.
    Shape:
        ``(*views, n, d)`` of unit rows to ``(*views,)``. O(n d M); memory O(n d), independent of knots.
    State:
        ``draw``: how many times the directions moved; call ``after_step()`` once a step.
    Raises:
        ValueError: an even number of knots, no slices, a reach or scale that is not positive.
    Reference:
        SPHERE-JEPA (2605.26900), SUSReg.

    Example:
        >>> sliced = SUSReg(8, num_slices=64)
        >>> sliced.after_step()  # other directions from the next call on
        >>> int(sliced.draw)
        1
    """

    def __init__(
        self,
        dim: int,
        num_slices: int = 1024,
        knots: int = 17,
        reach: float = 5.0,
        scale: float | None = None,
        target: Literal["exact", "gaussian"] = "exact",
        seed: int = 0,
        estimator: Estimator = "v",
        *,
        group: Group = None,
    ):
        if target not in ("exact", "gaussian"):
            raise ValueError(f"got target={target!r}, expected 'exact' or 'gaussian'")
        scale = math.sqrt(dim) if scale is None else scale
        super().__init__(dim, num_slices, knots, reach, scale, seed, estimator, group)
        points = self._points * self.scale
        self._target = (
            marginal_cf(points, dim) if target == "exact" else torch.exp(-points.square() / (2 * dim))
        )

    def target(self) -> Tensor:
        return self._target

    def kernel(self) -> QuadratureRuleKernel:
        """The zonal kernel whose MMD this statistic estimates: the very knots and weights of its rule."""
        points, rule = self._points * self.scale, self._rule
        return QuadratureRuleKernel(self.dim, points, rule)

    def slope(self, n: int) -> float:
        # n sum_k w_k phi(c), phi'(1) = sum_k w_k s_k^2 / (d sum_k w_k)
        return n * (self._rule * (self._points * self.scale).square()).sum().item() / self.dim


class SIGReg(_Sliced):
    r"""Sliced test of normality: Epps-Pulley distance of projections of *free* embeddings to N(0, 1).

    .. math:: T = n\, \frac1M \sum_m \int \big| \hat\varphi_{n}(s; a_m) - e^{-s^2/2} \big|^2 e^{-s^2/2}\, ds

    The mean over directions is exactly n times the squared MMD to N(0, I) of the kernel
    ``sum_k w_k 0F1(; d/2; -s_k^2 |x - y|^2 / 4)``.

    Args:
        dim: dimension d of the embeddings.
        num_slices: M.
        knots: of the rule, an odd number.
        reach: of the rule, on ``[-reach, reach]``.
        seed: of the directions.
        estimator: ``"v"`` as above; ``"u"``: as of :class:`SUSReg`.
        group: the ranks whose rows are the sample.

    Scale:
        For points of N(0, I) the mean is ``sum_k w_k (1 - e^{-s_k^2})`` (1.06), whatever n and d. ``slope`` is per half
        the mean squared distance of pairs.
    Shape, State, Raises:
        As :class:`SUSReg`, of rows that are not normalised.

    Reference:
        LeJEPA (2511.08544), SIGReg: its full line, 17 knots on [-5, 5], times the global n.

    Example:
        >>> SIGReg(8, num_slices=64)(torch.randn(3, 20, 8)).shape
        torch.Size([3])
    """

    space = "euclidean"

    def __init__(
        self,
        dim: int,
        num_slices: int = 1024,
        knots: int = 17,
        reach: float = 5.0,
        seed: int = 0,
        estimator: Estimator = "v",
        *,
        group: Group = None,
    ):
        super().__init__(dim, num_slices, knots, reach, 1.0, seed, estimator, group)

    def target(self) -> Tensor:
        return torch.exp(-self._points.square() / 2)

    def slope(self, n: int) -> float:
        target = self.target() if self.self_pairs else self.target() * ((n - 1) / n)
        return n * (self._rule * self._points.square() * (1 - target)).sum().item() / self.dim
