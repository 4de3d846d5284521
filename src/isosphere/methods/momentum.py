"""A teacher that follows its student."""

__all__ = ["Momentum"]

import copy

import torch
from torch import Tensor, nn


class Momentum(nn.Module):
    """Exponential moving average of a module: its parameters follow, its batch-norm statistics are its own.

    ``momentum`` is the share of the old value kept at each :meth:`follow`, in [0, 1) (SPHERE-JEPA: 0.996).
    """

    def __init__(self, student: nn.Module, momentum: float):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"got a teacher momentum of {momentum}, expected a number in [0, 1), e.g. 0.996")
        self.momentum = momentum
        self.module = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float | None = None) -> None:
        """Move the parameters towards the student's."""
        keep = self.momentum if momentum is None else momentum
        mine, theirs = self.module.parameters(), student.parameters()
        for own, other in zip(mine, theirs, strict=True):
            own.lerp_(other, 1 - keep)
