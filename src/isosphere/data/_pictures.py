"""Pictures that keep their own height and width, as one value where a batch of one shape would be a tensor."""

import math
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = Sequence[int] | NDArray[np.int64] | Tensor


class Pictures:
    """Pictures of one number of channels, each of its own shape.

    It has of a tensor what a batch needs: length, rows by slice or positions, ``device``, ``to``, ``pin_memory``.
    Between processes and devices all pixels travel as one tensor.

    Shape: each uint8 (c, h, w). Raises: ValueError for anything else.
    """

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self._pictures = list(pictures)
        if wrong := [x for x in self._pictures if x.ndim != 3 or x.dtype != torch.uint8]:
            raise ValueError(
                f"a picture is {wrong[0].dtype} of shape {tuple(wrong[0].shape)}; expected uint8 (c, h, w)."
            )
        if not self._pictures or len({len(x) for x in self._pictures}) > 1:
            raise ValueError("pictures: expected at least one, all of as many channels.")

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._pictures)

    @overload
    def __getitem__(self, rows: int) -> Tensor: ...
    @overload
    def __getitem__(self, rows: slice | Rows) -> "Pictures": ...
    def __getitem__(self, rows: int | slice | Rows) -> "Tensor | Pictures":
        if isinstance(rows, int):
            return self._pictures[rows]
        if isinstance(rows, slice):
            return Pictures(self._pictures[rows])
        return Pictures([self._pictures[int(i)] for i in rows])

    def __repr__(self) -> str:
        return f"Pictures({len(self)} of {self.channels} channels)"

    def __reduce__(self) -> tuple:
        return _unpacked, (self._packed(), self.shapes)

    @property
    def channels(self) -> int:
        """Of each picture."""
        return self._pictures[0].shape[0]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of each."""
        return [(c, h, w) for c, h, w in (x.shape for x in self._pictures)]

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self._pictures[0].device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Pictures":
        """The same on a device."""
        if torch.device(device) == self.device:
            return self
        return _unpacked(self._packed().to(device, non_blocking=non_blocking), self.shapes)

    def pin_memory(self, device: object = None) -> "Pictures":
        """The same in memory that a GPU can copy from by itself; torch's thread for that asks for it."""
        return _unpacked(self._packed().pin_memory(), self.shapes)

    def squares(self) -> Tensor:
        """The central square of each, whose short sides are alike. Shape: uint8 (n, c, s, s)."""
        found = []
        for x in self._pictures:
            side = min(x.shape[1:])
            top, left = (round((length - side) / 2) for length in x.shape[1:])
            found.append(x[:, top : top + side, left : left + side])
        return torch.stack(found)

    def _packed(self) -> Tensor:
        return torch.cat([x.reshape(-1) for x in self._pictures])


def _unpacked(packed: Tensor, shapes: Sequence[tuple[int, int, int]]) -> Pictures:
    parts = packed.split([math.prod(shape) for shape in shapes])
    return Pictures([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])


def together(pictures: Sequence[Tensor]) -> Tensor | Pictures:
    """A tensor of pictures of one shape; as :class:`Pictures` where there are several. Shape: each uint8 (c, h, w)."""
    return torch.stack(list(pictures)) if len({x.shape for x in pictures}) < 2 else Pictures(pictures)
