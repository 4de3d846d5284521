"""Batches of images in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from isosphere.errors import RunError, UsageError

from .decode import UnreadableImageError, fit_square
from .images import ImageSet, name_skipped
from .random import permutation
from .source import Source, to_tensor

__all__ = ["Batch", "Loader"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images uint8 (b, 3, size, size) and their positions in the source, int64 (b,), on the loader's
    device."""

    images: Tensor
    index: Tensor


@dataclass
class _Order:
    """The batches of one epoch for one rank, as lists of positions; the sampler of the DataLoader."""

    n: int
    batch_size: int
    seed: int
    rank: int
    world: int
    drop_last: bool
    epoch: int = 0
    start: int = 0

    def __len__(self) -> int:
        whole, rest = divmod(self.n, self.batch_size)
        return whole + (not self.drop_last and rest >= self.world)

    def __iter__(self) -> Iterator[list[int]]:
        order = permutation(self.n, self.seed, self.epoch)
        for k in range(self.start, len(self)):
            batch = order[k * self.batch_size : (k + 1) * self.batch_size]
            equal = len(batch) - len(batch) % self.world
            yield batch[:equal][self.rank :: self.world].tolist()


class _Pictures(Dataset):
    """Decodes pictures in worker processes; an unreadable one is replaced by the next that can be read."""

    def __init__(self, source: Source, size: int) -> None:
        self.source, self.size = source, size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int, dict[int, str]]:
        failed: dict[int, str] = {}
        for step in range(len(self.source)):
            i = (index + step) % len(self.source)
            try:
                image = fit_square(self.source.image(i, at_least=2 * self.size), self.size)
                return to_tensor(image), i, failed
            except UnreadableImageError as error:
                failed[i] = str(error)
        return torch.zeros((3, self.size, self.size), dtype=torch.uint8), -1, failed


def _collate(items: list[tuple[Tensor, int, dict[int, str]]]) -> tuple[Tensor, Tensor, dict[int, str]]:
    failed = {i: reason for _, _, reasons in items for i, reason in reasons.items()}
    return torch.stack([x for x, _, _ in items]), torch.tensor([i for _, i, _ in items]), failed


class Loader:
    """Batches of an image set in memory, or of a source that worker processes decode as it is needed.

    ``batch_size`` is that of all ranks together: batch k of an epoch holds the same images whatever ``world``
    is, and rank r takes every world-th of them, starting at r. All ranks get equal counts.

    A source's unreadable image is replaced by the next readable one and named in ``skipped``; with ``strict``
    it ends the epoch.

    Raises: ValueError if the batch cannot be divided among the ranks; UsageError if there are too few images
    for one batch; RunError from an epoch if nothing can be read, or anything cannot with ``strict``.
    """

    def __init__(
        self,
        images: ImageSet | Source,
        *,
        batch_size: int,
        size: int | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        workers: int = 2,
        strict: bool = False,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise ValueError(
                f"batch_size is {batch_size}; expected a positive multiple of the {world} ranks."
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank}; expected 0 to {world - 1}.")
        self._order = _Order(len(images), batch_size, seed, rank, world, drop_last)
        if not len(self._order):
            raise UsageError(
                f"{images.name} has {len(images)} images and a batch takes {batch_size}: give more images, or a batch "
                f"size of at most {max(len(images), 1)} (--batch-size {max(len(images), 1)})."
            )
        self.device = torch.device(device)
        self.skipped: dict[str, str] = {}
        self._strict = strict
        self._paths = images.paths
        self._stream: DataLoader | None = None
        if isinstance(images, ImageSet):
            if size not in (None, images.size):
                raise ValueError(f"size is {size}; the images in memory have {images.size} pixels a side.")
            self._images = images.images.to(self.device)
        else:
            if size is None:
                raise ValueError(
                    "size is missing; expected the side in pixels to which pictures are brought."
                )
            self._stream = DataLoader(
                _Pictures(images, size),
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_collate,
                pin_memory=self.device.type == "cuda",
                persistent_workers=workers > 0,
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on: the same whether or not the earlier ones were
        taken."""
        if not 0 <= start <= len(self):
            raise ValueError(f"start is {start}; expected 0 to {len(self)}.")
        self._order.epoch, self._order.start = epoch, start
        if self._stream is None:
            for index in self._order:
                on_device = torch.tensor(index, device=self.device)
                yield Batch(self._images.index_select(0, on_device), on_device)
            return
        for images, index, failed in self._stream:
            self._note(failed, index)
            yield Batch(images.to(self.device, non_blocking=True), index.to(self.device, non_blocking=True))

    def _note(self, failed: dict[int, str], index: Tensor) -> None:
        self.skipped |= {self._paths[i]: reason for i, reason in failed.items()}
        if failed and (self._strict or bool((index < 0).any())):
            raise RunError(
                f"{len(self.skipped)} images cannot be read: {name_skipped(list(self.skipped.items()))}. Remove "
                "or repair them" + (", or leave out --strict to go on without them." if self._strict else ".")
            )
