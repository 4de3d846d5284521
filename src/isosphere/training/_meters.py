"""What is measured of every step: its losses, with the watch for numbers that are none, and where its time goes."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.devices import synchronize
from isosphere.errors import NotFiniteError

WARM_UP = 5
"""Steps whose time is not counted: allocation, autotuning and the first touch of caches belong to no steady state."""


class Meter:
    """Means of a loss and its parts over steps; on a GPU it looks at the values only every few steps.

    `sums` is what a checkpoint keeps: the running sums, and ``count``, the steps in them.

    Raises: NotFiniteError from `add` and `flush` at the first step whose loss is not finite, naming step and parts.
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
        found = torch.cat([values for *_, values in waiting]).tolist() if waiting else []  # one wait for all
        for step, epoch, names, values in waiting:
            row, found = dict(zip(names, found, strict=False)), found[len(values) :]
            if not all(math.isfinite(value) for value in row.values()):
                shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
                raise NotFiniteError(f"the loss is not finite at step {step} (epoch {epoch}): {shown}.")
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


class StepTimer:
    """Seconds by section, summed over the steps after the first few.

    Network and loss are told apart by hooks: the network's forward is the time inside the encoder and the
    head, and its backward begins when the gradient arrives at the head's first output; what remains of
    forward and backward is the loss (normalisation, invariance, discrepancy). ``other`` is what no section
    covers: fetching the batch, bookkeeping, the loop itself.

    With `detailed` (``--profile``) a GPU is synchronised at the borders of the sections, which slows it a
    little. `phase` is what the step is doing: a section, and ``forward``, ``loss`` and ``backward`` in place of the
    network.
    """

    def __init__(
        self, device: torch.device, *, detailed: bool = False, networks: Iterable[nn.Module] = ()
    ) -> None:
        self._device = device
        self.detailed = detailed
        self.phase = "other"
        self.steps = 0
        self.seconds: dict[str, float] = {}
        self._current: dict[str, float] = {}
        self._step_start: float | None = None
        self._seen = 0
        self._depth = 0
        self._network_start = 0.0
        self._gradient_arrival: float | None = None
        self._hooks = [
            hook
            for network in (networks if detailed else ())
            for hook in (
                network.register_forward_pre_hook(self._enter),
                network.register_forward_hook(self._leave),
            )
        ]

    def close(self) -> None:
        """Leave the networks."""
        for hook in self._hooks:
            hook.remove()

    def now(self) -> float:
        """Seconds of a clock that never goes back, after the device has caught up if that was asked for."""
        if self.detailed:
            synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        """Count the block's time as `section`."""
        start, self.phase = self.now(), section
        yield
        self._add(section, self.now() - start)
        self.phase = "other"

    def each(self, section: str, items: Iterable[Any]) -> Iterator[Any]:
        """Iterate, counting the wait for each item as `section`; a step lasts from one wait to the next."""
        iterator = iter(items)
        self._step_start = None
        while True:
            start = self.now()
            self._finish_step(start)
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._step_start = start
            self._add(section, self.now() - start)
            yield item

    @contextmanager
    def backward(self) -> Iterator[None]:
        """The backward pass: the loss's part until the gradient reaches the head, then the network's."""
        if not self.detailed:
            with self("network"):
                yield
            return
        self._gradient_arrival = None
        start, self.phase = self.now(), "backward"
        yield
        end, self.phase = self.now(), "other"
        border = self._gradient_arrival if self._gradient_arrival is not None else start
        self._add("loss", border - start)
        self._add("network", end - border)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """The method's forward: the hooks on the networks count their part, the rest is the loss."""
        if not self.detailed:
            with self("network"):
                yield
            return
        before = self._current.get("network", 0.0)
        start, self.phase = self.now(), "loss"
        yield
        self.phase = "other"
        inside = self._current.get("network", 0.0) - before
        self._add("loss", self.now() - start - inside)

    def shares(self) -> dict[str, float] | None:
        """Shares of a step by section, summing to 1, or None before the warm-up has passed."""
        if not self.steps:
            return None
        total = self.seconds["step"]
        shares = {
            name: self.seconds.get(name, 0.0) / total for name in ("views", "network", "loss", "optimiser")
        }
        return {**shares, "other": max(0.0, 1.0 - sum(shares.values()))}

    def waiting(self) -> float:
        """Share of the steps so far that was spent waiting for the next batch; 0 before the warm-up has passed."""
        return self.seconds.get("data", 0.0) / self.seconds["step"] if self.steps else 0.0

    def step_seconds(self) -> float | None:
        """Mean duration of a step, or None before the warm-up has passed."""
        return self.seconds["step"] / self.steps if self.steps else None

    # --- inside ---------------------------------------------------------------------------------------------

    def _add(self, section: str, seconds: float) -> None:
        self._current[section] = self._current.get(section, 0.0) + seconds

    def _finish_step(self, now: float) -> None:
        if self._step_start is not None:
            self._seen += 1
            if self._seen > WARM_UP:
                self.steps += 1
                for name, seconds in {**self._current, "step": now - self._step_start}.items():
                    self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._current = {}

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if self._depth == 0:
            self._network_start = self.now()
            self.phase = "forward"
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._add("network", self.now() - self._network_start)
            self.phase = "loss"
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(self._arrive)

    def _arrive(self, gradient: Tensor) -> None:
        if self._gradient_arrival is None:
            self._gradient_arrival = self.now()
