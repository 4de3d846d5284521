"""Sliced tests: the Epps-Pulley statistic of random projections (SUSReg on the sphere, SIGReg in space)."""

__all__ = ["SIGReg", "SUSReg"]

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from isosphere.devices import constant, send
from isosphere.discrepancies._base import Discrepancy
from isosphere.kernels import QuadratureRuleKernel
from isosphere.reductions import Group, outside_transforms, sliced_characteristic_distance
from isosphere.seeds import mixed_seed
from isosphere.sphere import marginal_cf, sample_uniform


class _Sliced(Discrepancy):
    """n times the mean over directions of a trapezoid rule for the weighted distance of characteristic functions."""

    draw: Tensor
    random = True

    def __init__(
        self, dim: int, num_slices: int, knots: int, reach: float, scale: float, seed: int, group: Group
    ):
        super().__init__(dim, group=group)
        if num_slices < 1:
            raise ValueError(f"got num_slices={num_slices}, expected at least 1 (the papers: 1024)")
        if knots < 3 or knots % 2 == 0:
            raise ValueError(
                f"got knots={knots}, expected an odd number, at least 3, so that 0 is a knot (the papers: 17)"
            )
        if not reach > 0 or not scale > 0:
            raise ValueError(f"got reach={reach}, scale={scale}, expected positive numbers")
        self.num_slices, self.knots, self.reach, self.scale, self.seed = num_slices, knots, reach, scale, seed
        self.register_buffer("draw", torch.zeros((), dtype=torch.int64))
        self._draw = 0  # the same number, where reading it does not wait for a device
        half = knots // 2
        self.spacing = reach / half
        self._points = self.spacing * torch.arange(1, half + 1, dtype=torch.float64)
        rule = 2 * self.spacing * torch.exp(-self._points.square() / 2)
        rule[-1] /= 2
        self._rule = rule  # both halves of the line; the knot at 0 contributes nothing
        self._directions: Tensor | None = None
        self._directions_key: tuple | None = None

    @abstractmethod
    def target(self) -> Tensor:
        """Characteristic function of the target's projections at the positive knots, float64 ``(knots // 2,)``."""

    def directions(self, z: Tensor) -> Tensor:
        """The current unit directions ``(num_slices, d)``: a pure function of (seed, number of draws)."""
        key = (self._draw, z.device, z.dtype)
        if self._directions_key != key or self._directions is None:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, self._draw))
            with outside_transforms():
                uniform = sample_uniform(self.num_slices, self.dim, generator=generator)
                self._directions, self._directions_key = send(uniform.to(z.dtype), z.device), key
        return self._directions

    def _statistic(self, z: Tensor) -> Tensor:
        with outside_transforms():  # a backward pass may come when they are over
            numbers = (tuple(x.tolist()) for x in (self._rule, self.target()))
            weights, target = (constant(x, z.device, z.dtype) for x in numbers)
        distance = sliced_characteristic_distance(
            z * self.scale if self.scale != 1 else z,
            self.directions(z),
            spacing=self.spacing,
            weights=weights,
            target=target,
            group=self.group,
        )
        return self.count(z) * distance

    def reference(self, z: Tensor) -> Tensor:
        n, knots = z.shape[-2], self._points[:, None, None].to(z)
        angles = knots * self.scale * (z @ self.directions(z).mT).unsqueeze(-3)
        real = angles.cos().mean(-2) - self.target()[:, None].to(z)
        imaginary = angles.sin().mean(-2)
        return n * (self._rule.to(z)[:, None] * (real**2 + imaginary**2)).sum(-2).mean(-1)

    def after_step(self) -> None:
        """Move on to the next directions (training only; evaluation does not advance them)."""
        if self.training:
            self.draw += 1
            self._draw += 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._draw = int(self.draw)

    def extra_repr(self) -> str:
        rule = f"knots={self.knots}, reach={self.reach:g}, scale={self.scale:g}"
        return f"dim={self.dim}, num_slices={self.num_slices}, {rule}"


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
        *,
        group: Group = None,
    ):
        if target not in ("exact", "gaussian"):
            raise ValueError(f"got target={target!r}, expected 'exact' or 'gaussian'")
        super().__init__(
            dim, num_slices, knots, reach, math.sqrt(dim) if scale is None else scale, seed, group
        )
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
        *,
        group: Group = None,
    ):
        super().__init__(dim, num_slices, knots, reach, 1.0, seed, group)

    def target(self) -> Tensor:
        return torch.exp(-self._points.square() / 2)

    def slope(self, n: int) -> float:
        weights = self._rule * self._points.square() * (1 - self.target())
        return n * weights.sum().item() / self.dim
