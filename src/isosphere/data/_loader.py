"""Batches of images in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isosphere.devices import pins_memory, send
from isosphere.errors import RunError, UsageError, option, plural

from ._decoded import DecodedCache
from ._images import ImageSet, PictureSet, name_skipped, square
from ._limits import UnreadableImageError
from ._pictures import Pictures, together
from ._random import permutation
from ._source import AT_ONCE, Source
from ._whole import whole
from ._workers import Ahead, worker_count


@dataclass(frozen=True, slots=True)
class Batch:
    """Images uint8 (b, c, size, size), or pictures of several shapes, on the loader's device, and on the CPU their
    positions in the source, int64 (b,).
    """

    images: Tensor | Pictures
    index: Tensor


@dataclass
class _Order:
    """The batches of one epoch for one rank, as lists of positions; the sampler of the DataLoader.

    An epoch of fewer images than there are is a part of a pass over all of them: floor(n / epoch_images) epochs
    share one permutation and no image.
    """

    n: int
    epoch_images: int
    batch_size: int
    seed: int
    rank: int
    world: int
    drop_last: bool
    epoch: int = 0
    start: int = 0

    def __len__(self) -> int:
        whole, rest = divmod(self.epoch_images, self.batch_size)
        return whole + (not self.drop_last and rest >= self.world)

    def __iter__(self) -> Iterator[list[int]]:
        a_pass, part = divmod(self.epoch, self.n // self.epoch_images)
        first = part * self.epoch_images
        order = permutation(self.n, self.seed, a_pass)[first : first + self.epoch_images]
        for k in range(self.start, len(self)):
            batch = order[k * self.batch_size : (k + 1) * self.batch_size]
            equal = len(batch) - len(batch) % self.world
            yield batch[:equal][self.rank :: self.world].tolist()


@dataclass
class _Decoder:
    """Decodes the pictures at some positions; an unreadable one is replaced by the next that can be read."""

    source: Source
    size: int
    whole: bool
    cache: DecodedCache | None = None

    def __call__(self, positions: list[int]) -> tuple[Tensor | Pictures, Tensor, dict[int, str]]:
        failed: dict[int, str] = {}
        kept = {} if self.cache is None else self.cache.read(positions)
        found = []
        for start in range(0, len(positions), AT_ONCE):
            some = positions[start : start + AT_ONCE]
            with self.source.ahead([i for i in some if i not in kept]):
                found += [(kept[i], i) if i in kept else self._next_readable(i, failed) for i in some]
        if self.cache is not None:
            self.cache.add({i: x for x, i in found if i >= 0 and i not in kept})
        return together([x for x, _ in found]), torch.tensor([i for _, i in found]), failed

    def _next_readable(self, first: int, failed: dict[int, str]) -> tuple[Tensor, int]:
        for step in range(len(self.source)):
            i = (first + step) % len(self.source)
            try:
                return (whole if self.whole else square)(self.source, i, self.size), i
            except UnreadableImageError as error:
                failed[i] = str(error)
        return torch.zeros((self.source.in_chans, self.size, self.size), dtype=torch.uint8), -1


class Loader:
    """Batches of an image set in memory, or of a source that worker processes decode as it is needed.

    ``batch_size`` is that of all ranks together: batch k of an epoch holds the same images whatever ``world``
    is, and rank r takes every world-th of them, starting at r. All ranks get equal counts; without
    ``drop_last`` the last batch is cut to a multiple of ``world``. The global random generators are left
    alone.

    ``epoch_images`` makes an epoch of fewer images than there are, at most n of them: each pass over all n is
    cut into floor(n / epoch_images) such epochs without an image in common, and what is left of the pass, other
    images each time, is passed over.

    Of a source, images are the squares of :func:`~isosphere.data.load_images`, and with ``whole`` the pictures of
    :func:`~isosphere.data.load_pictures`.

    ``cache`` keeps the pictures of a source, so that only the first pass over them decodes.

    ``workers`` processes decode a source; None for two where processes are forked, else none. A source's unreadable
    image is replaced by the next readable one and named in ``skipped``; with ``strict`` it ends the epoch.

    Raises: ValueError if the batch cannot be divided among the ranks; UsageError if there are too few images
        for one batch; RunError from an epoch if nothing can be read, or anything cannot with ``strict``.
    """

    def __init__(
        self,
        images: ImageSet | PictureSet | Source,
        *,
        batch_size: int,
        size: int | None = None,
        whole: bool = False,
        device: torch.device | str = "cpu",
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        epoch_images: int | None = None,
        workers: int | None = None,
        strict: bool = False,
        cache: DecodedCache | None = None,
    ) -> None:
        if world < 1 or batch_size < 1 or batch_size % world:
            raise ValueError(
                f"batch_size is {batch_size}; expected a positive multiple of the {world} ranks."
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank}; expected 0 to {world - 1}.")
        length = len(images) if epoch_images is None else epoch_images
        if not 1 <= length <= max(1, len(images)):
            raise UsageError(
                f"an epoch of {length} images is asked for, and {images.name} has {len(images)}: give "
                f"{option('data.epoch_images', ...)} from {batch_size} to {len(images)}, or leave it out."
            )
        self._order = _Order(len(images), length, batch_size, seed, rank, world, drop_last)
        if epoch_images is not None and not len(self._order):
            raise UsageError(
                f"an epoch of {length} images holds no batch of {batch_size}: give "
                f"{option('data.epoch_images', batch_size)} or more, or a smaller {option('batch_size')}."
            )
        if not len(self._order):
            most = max(len(images) - len(images) % world, world)
            raise UsageError(
                f"{images.name} has {len(images)} images and a batch takes {batch_size}: give more images, "
                f"or a batch size of at most {most} ({option('batch_size', most)})."
            )
        self.device = torch.device(device)
        self.skipped: dict[str, str] = dict(
            images.unreadable if isinstance(images, Source) else images.skipped
        )
        self._strict = strict
        self._paths = images.paths
        if strict and self.skipped:
            raise self._refusal()
        self._images: Tensor | Pictures | None = None
        self._stream: Ahead | None = None
        self.cache = cache
        if isinstance(images, ImageSet | PictureSet):
            if size not in (None, images.size):
                raise ValueError(f"size is {size}; the images in memory have {images.size} pixels a side.")
            self._images = images.images.to(self.device)
        elif size is None:
            raise ValueError("size is missing; expected the side in pixels to which pictures are brought.")
        else:
            self._stream = Ahead(
                _Decoder(images, size, whole, cache),
                self._order,
                workers=worker_count(workers),
                keep=True,
                pin_memory=pins_memory(self.device),
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._order)

    def close(self) -> None:
        """End the workers, which else wait for another epoch as long as the loader is there."""
        if self._stream is not None:
            self._stream.close()
        if self.cache is not None:
            self.cache.close()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on, the same whether or not the earlier ones were
        taken.

        A streamed epoch is to be used up or dropped before the next one begins.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start is {start}; expected 0 to {len(self)}.")
        if self._images is not None:
            return self._from_memory(self._images, replace(self._order, epoch=epoch, start=start))
        assert self._stream is not None
        return self._from_stream(self._stream, epoch, start)

    def _from_memory(self, images: Tensor | Pictures, order: _Order) -> Iterator[Batch]:
        for positions in order:
            index = torch.tensor(positions)
            if isinstance(images, Pictures):
                yield Batch(together([images[i] for i in positions]), index)
            else:
                yield Batch(images.index_select(0, send(index, self.device)), index)

    def _from_stream(self, stream: Ahead, epoch: int, start: int) -> Iterator[Batch]:
        self._order.epoch, self._order.start = epoch, start
        for images, index, failed in stream:
            self._note(failed, index)
            yield Batch(images.to(self.device, non_blocking=True), index)

    def _note(self, failed: dict[int, str], index: Tensor) -> None:
        self.skipped |= {self._paths[i]: reason for i, reason in failed.items()}
        if not failed or (bool((index >= 0).all()) and not self._strict):
            return
        self.close()
        raise self._refusal()

    def _refusal(self) -> RunError:
        way_out = f", or leave out {option('strict')} to go on without them." if self._strict else "."
        return RunError(
            f"{plural(len(self.skipped), 'image')} cannot be read: {name_skipped(self.skipped.items())}. Remove or "
            f"repair {'it' if len(self.skipped) == 1 else 'them'}{way_out}"
        )
