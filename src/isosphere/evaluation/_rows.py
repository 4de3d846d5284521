"""Rows of features as a fit reads them: standardised block by block, the features themselves held once."""

from collections.abc import Callable, Iterator

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._labels import judged

_WHOLE = 1 << 25
"""Numbers up to which the standardised rows are kept: 128 MiB in float32."""
_BLOCK = 1 << 23


class Rows:
    r"""The rows :math:`(x_i - m) \odot s` for i in an index, made as they are asked for.

    A small set is made once and kept, so that nothing is computed twice; of a large one a block is in memory at a time,
    beside the features, which may be of any number type.

    Args:
        x: ``(n, p)`` features. mean, scale: ``(p,)``; None: the features as they are. index: which rows, in which
            order; None: all.

    Shape: ``len(rows)`` and ``rows.width``; blocks are float64 for float64 features, else float32.
    """

    def __init__(
        self, x: Tensor, mean: Tensor | None = None, scale: Tensor | None = None, index: Tensor | None = None
    ) -> None:
        self._x, self._mean, self._scale, self._index = x, mean, scale, index
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.device, self.width = x.device, x.shape[1]
        self._kept = self[torch.arange(len(self), device=x.device)] if self._small else None

    @classmethod
    def checked(cls, x: ArrayLike | Tensor, name: str) -> "Rows":
        """The rows of finite features ``(n, p)``. Raises: ValueError for another shape or numbers."""
        tensor = judged(x)
        if tensor.ndim != 2 or tensor.is_complex():
            raise ValueError(
                f"{name}: got {tensor.dtype} of shape {tuple(tensor.shape)}, expected (n, p) features"
            )
        if not all(bool(torch.isfinite(part).all()) for part in tensor.split(65536)):
            raise ValueError(
                f"{name}: got non-finite numbers, expected finite ones; drop or repair these rows first"
            )
        return cls(tensor)

    def __len__(self) -> int:
        return len(self._x) if self._index is None else len(self._index)

    @property
    def _small(self) -> bool:
        return len(self) * self.width <= _WHOLE

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Rows by their positions among these."""
        kept = getattr(self, "_kept", None)
        if kept is not None:
            return kept[positions]
        rows = self._x[positions if self._index is None else self._index[positions]].to(self.dtype)
        rows = rows if self._mean is None else rows - self._mean
        return rows if self._scale is None else rows * self._scale

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """All rows in order, as many at a time as fit: (where, rows)."""
        if self._kept is not None:
            yield slice(0, len(self)), self._kept
            return
        step = max(1, _BLOCK // self.width)
        for start in range(0, len(self), step):
            here = slice(start, min(start + step, len(self)))
            yield here, self[torch.arange(here.start, here.stop, device=self.device)]

    def every(self, step: int) -> Tensor:
        """Each `step`-th row."""
        return self[torch.arange(0, len(self), step, device=self.device)]

    def subset(self, positions: Tensor) -> "Rows":
        """The rows at these positions."""
        if self._kept is not None:
            return Rows(self._kept[positions])
        return Rows(
            self._x, self._mean, self._scale, positions if self._index is None else self._index[positions]
        )

    def mean(self) -> Tensor:
        """Mean row ``(p,)``."""
        if self._kept is not None:
            return self._kept.mean(0)
        return self._mean_of(lambda block: block)

    def _mean_of(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        total = torch.zeros(self.width, dtype=torch.float64, device=self.device)
        for _, block in self.blocks():
            total += function(block).sum(0, dtype=torch.float64)
        return (total / len(self)).to(self.dtype)

    def standardised(self, *others: Tensor) -> "tuple[Rows, ...]":
        """These rows with mean 0 and variance 1, and other features by the same shift and scale; what is constant
        becomes 0.
        """
        mean = self.mean()
        if self._kept is not None:
            std = self._kept.std(0, correction=0)
        else:
            std = self._mean_of(lambda block: (block - mean).square()).sqrt()
        constant = std <= 1e-6 * mean.abs().clamp(min=torch.finfo(self.dtype).tiny)
        scale = torch.where(constant, 0.0, 1 / std)
        own = Rows(self._x, mean, scale, self._index)
        return own, *(Rows(x.to(self.device), mean, scale) for x in others)

    def centred(self, mean: Tensor) -> "Rows":
        """These rows less a mean of theirs."""
        if self._kept is not None:
            return Rows(self._kept - mean)
        scale = torch.ones(self.width).to(mean) if self._scale is None else self._scale
        shift = torch.where(scale > 0, mean / scale, 0.0)
        return Rows(self._x, shift if self._mean is None else self._mean + shift, self._scale, self._index)
