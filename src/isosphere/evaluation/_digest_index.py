"""Where the rows of single images lie, in many files: found without looking into each of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class DigestIndex:
    """From the digest of an image, int64 (2,), to the file and row that hold it.

    Digests are kept sorted in levels, each at least twice as long as the next: n of them, added in any number of
    pieces, take n log n operations, and one is found in (log n)^2.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[Path, int] | None] = []
        self._levels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, path: Path, digests: NDArray[np.int64]) -> None:
        """The rows of a file, in its order: int64 (n, 2)."""
        place = (len(self._blocks) << 32) + np.arange(len(digests))
        self._blocks.append((path, 0))
        order = np.argsort(digests[:, 0], kind="stable")
        keys, places = digests[order], place[order]
        while self._levels and len(self._levels[-1][0]) < 2 * len(keys):
            more, there = self._levels.pop()
            keys, places = np.concatenate([more, keys]), np.concatenate([there, places])
            order = np.argsort(keys[:, 0], kind="stable")
            keys, places = keys[order], places[order]
        self._levels.append((keys, places))

    def move(self, old: Path, new: Path, offset: int) -> None:
        """Say that the rows of a file are those of another, from a row on."""
        for number, block in enumerate(self._blocks):
            if block is not None and block[0] == old:
                self._blocks[number] = new, block[1] + offset

    def drop(self, path: Path) -> None:
        """Forget a file."""
        self._blocks = [None if block is not None and block[0] == path else block for block in self._blocks]

    def find(self, asked: NDArray[np.int64]) -> dict[Path, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """By file, which of the images asked for are in it, and the rows where they are."""
        places = np.full(len(asked), -1, np.int64)
        for keys, there in self._levels:
            if len(keys):
                # 64 of the 128 bits find the row, the others confirm it.
                at = np.minimum(np.searchsorted(keys[:, 0], asked[:, 0]), len(keys) - 1)
                places = np.where((keys[at] == asked).all(1), there[at], places)
        found: dict[Path, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for number in np.unique(places[places >= 0] >> 32):
            if (block := self._blocks[number]) is not None:
                path, offset = block
                here = np.flatnonzero((places >= 0) & (places >> 32 == number))
                rows = (places[here] & 0xFFFFFFFF) + offset
                before = found.get(path, (here[:0], rows[:0]))
                found[path] = np.concatenate([before[0], here]), np.concatenate([before[1], rows])
        return found
