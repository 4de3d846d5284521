"""Code of one's own that watches a training and may stop it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from isosphere.devices import generators_kept
from isosphere.errors import UsageError


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    ``step`` steps, ``epoch`` whole epochs, ``images`` images and ``seconds`` of training lie behind, and ``fraction``
    of the run, from 0 to 1. ``losses``: the loss, ``total``, and its parts: after a step its own (on a GPU, which is
    asked every 20 steps, those of the last one known), after an epoch their means, as in metrics.csv. ``metrics``:
    the latest that the monitor and the k-NN probe have found; the monitor looks in the first process alone.
    """

    step: int
    epoch: int
    images: int
    seconds: float
    fraction: float
    losses: Mapping[str, float]
    metrics: Mapping[str, float]


class Callback:
    """Called by every process of a training; override one of the methods, or both.

    One that returns True stops the training as Ctrl-C would, in all processes: a checkpoint is written, and the run
    can be resumed. An exception ends it with its own traceback; the run can be resumed from its last checkpoint.
    Random numbers that a callback draws from torch's generators change nothing in the training.
    """

    def on_step(self, progress: Progress) -> bool | None:
        """After each step."""

    def on_epoch(self, progress: Progress) -> bool | None:
        """After each epoch, when its row of metrics.csv is written."""


class Callbacks:
    """Several callbacks as one, or a single one. Raises: UsageError for what is none."""

    def __init__(self, callbacks: Callback | Sequence[Callback], device: torch.device) -> None:
        callbacks = callbacks if isinstance(callbacks, Iterable) else [callbacks]
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise UsageError(
                    f"callbacks: got {callback!r}, expected instances of a subclass of isosphere.training.Callback."
                )
        self._callbacks = tuple(callbacks)
        self._device = device
        self.error: Exception | None = None
        """What one of them has raised."""

    def __len__(self) -> int:
        return len(self._callbacks)

    def call(self, moment: Literal["on_step", "on_epoch"], progress: Progress) -> bool:
        """Call every one; whether any of them wants to stop."""
        try:
            with generators_kept(self._device):
                answers = [getattr(callback, moment)(progress) for callback in self._callbacks]
        except Exception as error:
            self.error = error
            raise
        return any(answers)
