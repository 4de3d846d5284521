"""How far a run has come, and the learning rate that belongs to it."""

import math
from dataclasses import dataclass

from isosphere.errors import RunError, option
from isosphere.training._config import Config

GROWTH = (0.5, 0.75, 1.0)
"""Of the side of a view, in equal parts of a training with ``views.progressive``."""
HEAD_SHARE = 0.2
"""Of a training in minutes, the largest share in which the head learns alone."""


@dataclass(frozen=True)
class Plan:
    """The length of a run: in steps, or in seconds of training.

    ``progress(step, elapsed)`` is the share that lies behind, in [0, 1]: steps over all steps, or elapsed
    over all time, so that a run that is given minutes anneals over just these minutes, however fast the
    machine is.
    """

    steps: int | None
    seconds: float | None
    warmup_steps: int
    final_fraction: float
    head_steps: int = 0
    """The first steps, in which the head alone learns; of a time at most the fifth part."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("a plan has either steps or seconds: give exactly one of them")

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the run that lies behind after `step` steps and `elapsed` seconds."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        return min(1.0, elapsed / self.seconds)  # type: ignore[operator]

    def share_of_side(self, step: int, elapsed: float) -> float:
        """Of the side of a view in the step numbered `step` (from 0), where views grow."""
        return GROWTH[min(len(GROWTH) - 1, int(len(GROWTH) * self.progress(step, elapsed)))]

    def finished(self, step: int, elapsed: float, step_seconds: float = 0.0) -> bool:
        """Whether no further step is due; with a time limit, whether one more would overrun it."""
        if self.steps is not None:
            return step >= self.steps
        return elapsed + step_seconds >= self.seconds  # type: ignore[operator]

    def head_alone(self, step: int, elapsed: float) -> bool:
        """Whether the backbone stays as it is in the step numbered `step` (from 0)."""
        in_time = self.seconds is None or self.progress(step, elapsed) < HEAD_SHARE
        return step < self.head_steps and in_time

    def factor(self, step: int, elapsed: float) -> float:
        """The learning rate of the step numbered `step` (from 0), over the highest."""
        return self._factor(step, elapsed, 0, 0.0)

    def backbone_factor(self, step: int, elapsed: float) -> float:
        """The same for the backbone, which begins its own rise when the head has had its time."""
        if self.head_alone(step, elapsed):
            return 0.0
        return self._factor(step, elapsed, self.head_steps, HEAD_SHARE if self.head_steps else 0.0)

    def _factor(self, step: int, elapsed: float, first: int, begun: float) -> float:
        progress = self.progress(step, elapsed)
        ramp = 1.0 if self.warmup_steps == 0 else min(1.0, (step - first + 1) / self.warmup_steps)
        if self.seconds is not None:
            # An epoch may outlast the whole time: the rise takes a tenth of it at most.
            ramp = max(ramp, min(1.0, 10 * (progress - begun)))
        return learning_rate_factor(progress, max(0.0, ramp), self.final_fraction)

    def remaining(self, step: int, elapsed: float, step_seconds: float) -> float:
        """Estimated seconds until the end."""
        if self.steps is not None:
            return max(0, self.steps - step) * step_seconds
        return max(0.0, self.seconds - elapsed)  # type: ignore[operator]


def slower_later(progress: float) -> float:
    """How much longer the steps that are left take on average, where views grow, than those at this share of a
    training: by the pixels of a view.
    """
    n, pixels = len(GROWTH), [share**2 for share in GROWTH]
    left = [max(0.0, (k + 1) / n - max(progress, k / n)) for k in range(n)]
    mean = sum(part * each for part, each in zip(left, pixels, strict=True)) / (1 - progress)
    return mean / pixels[min(n - 1, int(n * progress))]


def learning_rate_factor(progress: float, ramp: float, final_fraction: float) -> float:
    r"""Warm-up times cosine:  min(ramp, 1) (f + (1 - f) (1 + cos(pi progress)) / 2).

    Scale: at most 1; `final_fraction` f at progress 1.
    """
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return min(1.0, ramp) * (final_fraction + (1.0 - final_fraction) * cosine)


def make_plan(config: Config, batches: int) -> Plan:
    """The length and the warm-up of a run of so many batches an epoch."""
    train = config.train
    if batches < 1:
        raise RunError(
            f"there is not one whole batch to train on: give a smaller {option('batch_size')} or more images."
        )
    return Plan(
        steps=None if train.minutes is not None else (train.epochs or 0) * batches,
        seconds=None if train.minutes is None else 60.0 * train.minutes,
        warmup_steps=round(config.optim.warmup_epochs * batches),
        final_fraction=config.optim.final_fraction,
        head_steps=(train.head_epochs or 0) * batches,
    )
