"""Random directions of a sliced statistic: drawn by a seed, moved between steps, the same on every rank."""

__all__ = ["Directed"]

from typing import Any

import torch
from torch import Tensor

from isosphere.devices import send
from isosphere.discrepancies._base import Discrepancy
from isosphere.reductions import Group, outside_transforms
from isosphere.seeds import mixed_seed
from isosphere.sphere import sample_uniform


class Directed(Discrepancy):
    """A discrepancy of projections onto ``num_slices`` directions; the parent of sliced statistics."""

    draw: Tensor
    random = True

    def __init__(self, dim: int, num_slices: int, seed: int, group: Group):
        super().__init__(dim, group=group)
        if num_slices < 1:
            raise ValueError(f"got num_slices={num_slices}, expected at least 1 (the papers: 1024)")
        self.num_slices, self.seed = num_slices, seed
        self.register_buffer("draw", torch.zeros((), dtype=torch.int64))
        self._draw = 0  # the same number, where reading it does not wait for a device
        self._directions: Tensor | None = None
        self._directions_key: tuple | None = None

    def directions(self, z: Tensor) -> Tensor:
        """The current unit directions ``(num_slices, d)``: a pure function of (seed, number of draws)."""
        key = (self._draw, z.device, z.dtype)
        if self._directions_key != key or self._directions is None:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, self._draw))
            with outside_transforms():
                uniform = sample_uniform(self.num_slices, self.dim, generator=generator)
                self._directions, self._directions_key = send(uniform.to(z.dtype), z.device), key
        return self._directions

    def after_step(self) -> None:
        """Move on to the next directions (training only; evaluation does not advance them)."""
        if self.training:
            self.draw += 1
            self._draw += 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._draw = int(self.draw)
