"""A weighted mean of discrepancies."""

__all__ = ["Mixture"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.discrepancies._base import Discrepancy


class Mixture(Discrepancy):
    r"""Weighted mean of discrepancies of the same space and dimension.

    .. math:: D = \sum_k \alpha_k D_k, \quad \alpha_k > 0, \; \sum_k \alpha_k = 1

    A mixture of MMDs is the MMD of the mixed kernel up to scale, so it is worth its cost for different kinds: MMD
    straightens what is global (mean, covariance), KL what is local (neighbours).

    Args:
        parts: at least two discrepancies.
        shares: positive numbers, normalised to sum 1; None: equal.

    Scale:
        That of the parts, weighted: collapse is 1 and a uniform population 0 where each part is so scaled. The null is
        simulated: the parts are correlated.
    Shape:
        ``(*views, n, d)`` to ``(*views,)``.
    Raises:
        ValueError: fewer than two parts, a share that is not positive, parts of different space or dimension.
    Reference:
        This library; no paper mixes them.

    Example:
        >>> from isosphere.discrepancies import KL, MMD
        >>> from isosphere.kernels import HeatKernel, VonMisesFisherKernel
        >>> both = Mixture([MMD(HeatKernel(8)), KL(VonMisesFisherKernel(8))], shares=[3, 1])
        >>> both.shares
        (0.75, 0.25)
    """

    def __init__(self, parts: Sequence[Discrepancy], shares: Sequence[float] | None = None):
        shares = [1.0] * len(parts) if shares is None else list(shares)
        if len(parts) < 2 or len(shares) != len(parts) or not min(shares) > 0:
            raise ValueError(
                f"got {len(parts)} part(s) and shares={shares}, expected at least two parts, each with a positive share"
            )
        spaces, dims = {part.space for part in parts}, {part._dim for part in parts}
        if len(spaces) > 1 or len(dims) > 1:
            raise ValueError(
                f"got parts of space {sorted(spaces)} and dim {sorted(dims, key=str)}, expected one of each"
            )
        super().__init__(parts[0]._dim, group=parts[0].group)
        self.parts = nn.ModuleList(parts)
        self.shares = tuple(share / sum(shares) for share in shares)
        self.space = parts[0].space
        self.self_pairs = any(part.self_pairs for part in parts)
        self.random = any(part.random for part in parts)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "group" and "parts" in self.__dict__.get("_modules", {}):
            for part in self.parts:
                part.group = value

    def _statistic(self, z: Tensor) -> Tensor:
        values = [share * part._statistic(z) for share, part in self._shared()]
        return torch.stack(values).sum(0)

    def reference(self, z: Tensor) -> Tensor:
        return torch.stack([share * part.reference(z) for share, part in self._shared()]).sum(0)

    def _shared(self) -> list[tuple[float, Discrepancy]]:
        return list(zip(self.shares, self.parts, strict=True))  # type: ignore[arg-type]

    def slope(self, n: int) -> float:
        # The parts may differ in whether rows meet themselves: brought to the mixture's own convention.
        own = 1 - 1 / n if self.self_pairs else 1.0
        return sum(
            share * part.slope(n) * (1 - 1 / n if part.self_pairs else 1) / own
            for share, part in self._shared()
        )

    def after_step(self) -> None:
        for part in self.parts:
            part.after_step()  # type: ignore[operator]

    def extra_repr(self) -> str:
        return f"shares={tuple(round(share, 4) for share in self.shares)}"
