"""A teacher that follows its student."""

__all__ = ["HORIZON", "Momentum"]

import copy
from typing import Any

import torch
from torch import Tensor, nn

HORIZON = 0.01
"""The longest memory of a teacher, as a share of the training, unless another is asked for."""


class Momentum(nn.Module):
    r"""Exponential moving average of a module: its parameters follow, its batch-norm statistics are its own.

    A momentum :math:`\tau` remembers :math:`1/(1 - \tau)` steps, a thousandth of the papers' trainings; in a training
    of some hundred steps the same number would hold on to the untrained network until the end. So :meth:`bounded`
    shortens the memory where it is longer than a share of the training: from 10,000 steps on .99 is what is typed.

    Args:
        student: copied as it is.
        momentum: tau, the share of the old value kept at each :meth:`follow`, in [0, 1) (SPHERE-JEPA: 0.996; BYOL: .99
            to .996).
        memory: the longest memory, as a share of the training; with 1 the momentum is always what is typed.

    State:
        ``progress``, of the training at the last :meth:`bounded`.
    Raises:
        ValueError: numbers outside these ranges.

    Example:
        >>> teacher = Momentum(torch.nn.Linear(2, 2), 0.99)
        >>> round(teacher.bounded(1 / 500), 4)  # one step of 500: a memory of five steps
        0.8
    """

    progress: Tensor

    def __init__(self, student: nn.Module, momentum: float, memory: float = HORIZON):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"got a teacher momentum of {momentum}, expected a number in [0, 1), e.g. 0.996")
        if not 0 < memory <= 1:
            raise ValueError(
                f"got a memory of {memory}, expected a share of the training in (0, 1], e.g. {HORIZON}"
            )
        self.momentum, self.memory = momentum, memory
        self.module = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("progress", torch.zeros(()))
        self._progress = 0.0  # the same number, where reading it does not wait for a device

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    def bounded(self, progress: float) -> float:
        """The momentum of this step: at most 1 - (share of the training that a step takes) / ``memory``.

        Call once a step, with the progress of the training after it, from 0 to 1.
        """
        step = max(0.0, progress - self._progress)
        self._progress = torch.tensor(
            progress, dtype=torch.float32
        ).item()  # as the state dict will give it back
        self.progress.fill_(self._progress)
        return max(0.0, min(self.momentum, 1 - step / self.memory))

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float | None = None) -> None:
        """Move the parameters towards the student's."""
        keep = self.momentum if momentum is None else momentum
        mine: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.setdefault(f"{prefix}progress", self.progress)  # runs from before the memory was bounded
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._progress = self.progress.item()
