"""Images of a source in batches, decoded as they are needed: a pass over more images than fit in memory."""

import math
import mmap
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._images import require_readable, square
from ._limits import UnreadableImageError
from ._source import AT_ONCE, Source
from ._workers import Ahead, worker_count

_GREY = 128


@dataclass(frozen=True, slots=True)
class Decoded:
    """The readable images of a batch, and why the others are not.

    Shape: images uint8 (b, channels, size, size); index int64 (b,), positions in the source; failed by position.
    """

    images: Tensor
    index: Tensor
    failed: dict[int, str]


def decode_batch(source: Source, size: int, positions: Sequence[int]) -> Decoded:
    """Decode the images at these positions, in this order; see :func:`~isosphere.data.load_images` for how."""
    images = torch.empty((len(positions), source.in_chans, size, size), dtype=torch.uint8)
    index: list[int] = []
    failed: dict[int, str] = {}
    for start in range(0, len(positions), AT_ONCE):
        some = positions[start : start + AT_ONCE]
        with source.ahead(some):
            for i in some:
                try:
                    images[len(index)] = square(source, i, size)
                    index.append(i)
                except UnreadableImageError as error:
                    failed[i] = str(error)
    return Decoded(images[: len(index)], torch.tensor(index, dtype=torch.int64), failed)


def images_at(source: Source, positions: Sequence[int] | NDArray[np.int64] | Tensor, size: int) -> Tensor:
    """The images at some positions, a grey square for each that cannot be read: uint8 (k, channels, size, size)."""
    images = torch.full((len(positions), source.in_chans, size, size), _GREY, dtype=torch.uint8)
    for k, i in enumerate(_positions(source, positions).tolist()):
        found = decode_batch(source, size, [i])
        if not found.failed:
            images[k] = found.images[0]
    return images


def stream(
    source: Source,
    size: int,
    *,
    positions: Sequence[int] | NDArray[np.int64] | Tensor | None = None,
    batch_size: int = 256,
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Generator[Decoded]:
    """Decode a source batch by batch, the next while the last is used; pixels as :func:`~isosphere.data.load_images`.

    Batch k holds the readable ones among the k-th ``batch_size`` of the positions, in their order, and may be empty:
    neither the number of workers nor a share of whole batches shows in it. Memory holds about three batches.

    Args:
        size: width and height of each image.
        positions: which images, in this order; all of them if None.
        workers: processes that decode; None for two where processes are forked, else none. An exhausted, dropped or
            interrupted stream leaves none behind. None are started for images in memory, or for one or two batches.
        strict: an image that cannot be read ends the stream.
        progress: called with (done, total) as each batch is decoded.

    Raises: ValueError for arguments out of range, at once; RunError where a worker is killed, or with ``strict``. What
        a user's own data set raises surfaces as it is.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected at least 1 pixel.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    chosen = _positions(source, np.arange(len(source)) if positions is None else positions)
    if strict:
        require_readable(source, len(source), source.unreadable, strict=True)
    few = source.in_memory or len(chosen) <= 2 * batch_size
    return _stream(
        _Plan(source, size, chosen, batch_size), 0 if few else worker_count(workers), strict, progress
    )


@dataclass
class _Plan:
    """Which images are decoded together: parts of batches, so that the workers share each batch."""

    source: Source
    size: int
    positions: NDArray[np.int64]
    batch_size: int

    def batches(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self.positions), self.batch_size):
            yield self.positions[start : start + self.batch_size]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches():
            for start in range(0, len(batch), AT_ONCE):
                yield batch[start : start + AT_ONCE].tolist()

    def __call__(self, positions: list[int]) -> Decoded:
        return decode_batch(self.source, self.size, positions)


def _stream(
    plan: _Plan, workers: int, strict: bool, progress: Callable[[int, int], None] | None
) -> Generator[Decoded]:
    parts_a_batch = math.ceil(plan.batch_size / AT_ONCE)
    ahead = max(2, math.ceil(parts_a_batch / max(1, workers)))
    done = 0
    with closing(iter(Ahead(plan, plan, workers=workers, ahead=ahead))) as parts:
        for batch in plan.batches():
            found = _join([next(parts) for _ in range(0, len(batch), AT_ONCE)])
            if strict and found.failed:
                reasons = [(plan.source.paths[i], reason) for i, reason in found.failed.items()]
                require_readable(plan.source, len(plan.source) - len(reasons), reasons, strict=True)
            done += len(batch)
            if progress is not None:
                progress(done, len(plan.positions))
            yield found


def _join(parts: list[Decoded]) -> Decoded:
    failed = {i: reason for part in parts for i, reason in part.failed.items()}
    index = torch.cat([part.index for part in parts])
    images = _pages((len(index), *parts[0].images.shape[1:]))
    start = 0
    for part in parts:
        images[start : start + len(part.images)] = part.images
        start += len(part.images)
    return Decoded(images, index, failed)


def _pages(shape: tuple[int, ...]) -> Tensor:
    """Bytes in memory pages of their own, which the system has back when they are dropped: blocks of a batch's size in
    the common heap leave gaps that nothing fits into, and a long pass would take as much memory as all its images.
    """
    count = math.prod(shape)
    return torch.frombuffer(mmap.mmap(-1, max(1, count)), dtype=torch.uint8, count=max(1, count))[
        :count
    ].view(shape)


def _positions(source: Source, positions: Sequence[int] | NDArray[np.int64] | Tensor) -> NDArray[np.int64]:
    chosen = np.asarray(positions, dtype=np.int64).reshape(-1)
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(source):
        raise ValueError(
            f"positions reach from {chosen.min()} to {chosen.max()}; expected 0 to {len(source) - 1}, the images of "
            f"{source.name}."
        )
    return chosen
