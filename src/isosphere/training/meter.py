"""The loss and its parts since the last row, and the watch for numbers that are none."""

import math

import torch
from torch import Tensor

from isosphere.errors import RunError

__all__ = ["Meter"]


class Meter:
    """Means of a loss and its parts over steps; on a GPU it looks at the values only every few steps.

    `sums` is what a checkpoint keeps: the running sums, and ``count``, the steps in them.

    Raises: RunError from `add` and `flush` at the first step whose loss is not finite, naming step and parts.
    """

    def __init__(self, sums: dict[str, float], *, every: int) -> None:
        self.sums = sums
        self.last: dict[str, float] = {}
        self._every = every
        self._waiting: list[tuple[int, int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, epoch: int, total: Tensor, parts: dict[str, Tensor]) -> None:
        """Note one step; both numbers are counted from 1, as they are shown."""
        values = torch.stack(
            [total.detach().float(), *(part.detach().float().mean() for part in parts.values())]
        )
        self._waiting.append((step, epoch, ("total", *parts), values))
        if len(self._waiting) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Fetch what is still on the device, check it and add it up."""
        waiting, self._waiting = self._waiting, []
        for step, epoch, names, values in waiting:
            row = dict(zip(names, values.tolist(), strict=True))
            if not all(math.isfinite(value) for value in row.values()):
                shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
                raise RunError(f"the loss is not finite at step {step} (epoch {epoch}): {shown}.")
            self.last = row
            for name, value in row.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.sums["count"] = self.sums.get("count", 0.0) + 1

    def take(self) -> dict[str, float]:
        """Means since the last call, empty if there was no step; starts the next period."""
        self.flush()
        count = self.sums.get("count", 0.0)
        means = {name: value / count for name, value in self.sums.items() if name != "count"} if count else {}
        self.sums.clear()
        return means
