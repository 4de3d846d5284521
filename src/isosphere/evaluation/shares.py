"""Images divided among the ranks of a process group: each decodes its share, the first holds them all."""

import numpy as np
import torch.distributed as dist
from torch import Tensor

from isosphere.data import ImageSet, Source, read_images, require_readable
from isosphere.evaluation.features import Progress
from isosphere.reductions import world_size

__all__ = ["load_shares", "share"]


def share(count: int, *, rank: int, world: int, batch_size: int = 256) -> range:
    """Positions of a rank's share of `count` images: consecutive, whole batches but at the very end.

    The shares of ranks 0, 1, ... follow each other and cover everything; batches are given out evenly, so that
    the last ranks get none where there are fewer batches than ranks. Features computed on such shares come
    from the very batches that one process makes.

    Raises: ValueError if `rank` is not one of `world` ranks, or `batch_size` is below 1.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank: got {rank}, expected 0 to {world - 1}")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    each, more = divmod(-(-count // batch_size), world)
    first = rank * each + min(rank, more)
    last = first + each + (rank < more)
    return range(min(first * batch_size, count), min(last * batch_size, count))


def load_shares(
    source: Source,
    size: int,
    *,
    batch_size: int = 256,
    strict: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[ImageSet | None, Tensor]:
    """``load_images`` by all ranks of the default process group, which must move CPU tensors, as gloo does.

    Every rank decodes its :func:`share`; the first rank gets all images, the others None. With unreadable
    images, which are left out, the shares of the readable ones move on by a few.

    Returns: (all images or None, this rank's share of the readable ones, uint8 ``(m, 3, size, size)``).

    Raises: RunError, on every rank, where ``load_images`` would.
    """
    world = world_size()
    rank = dist.get_rank() if world > 1 else 0
    part = source.subset(list(share(len(source), rank=rank, world=world, batch_size=batch_size)))
    part.unreadable = []
    found = read_images(part, size, workers=workers, progress=progress)
    told = (found.labels, found.paths, found.skipped)
    all_told: list[tuple[np.ndarray, list[str], list[tuple[str, str]]]] = [told] * world
    if world > 1:
        dist.all_gather_object(all_told, told)
    skipped = [item for _, _, listed in all_told for item in listed] + source.unreadable
    counts = [len(paths) for _, paths, _ in all_told]
    require_readable(source, sum(counts), skipped, strict=strict)
    pixels = _collected(found.images, counts, rank)
    spans = [share(sum(counts), rank=r, world=world, batch_size=batch_size) for r in range(world)]
    own = found.images
    if [len(span) for span in spans] != counts:
        own = _handed_out(pixels, spans, rank, like=found.images)
    if pixels is None:
        return None, own
    labels = np.concatenate([labels for labels, _, _ in all_told])
    paths = [path for _, listed, _ in all_told for path in listed]
    whole = ImageSet(pixels, labels, paths, source.class_names, skipped, source.name)
    return whole, pixels[spans[0].start : spans[0].stop]


def _collected(mine: Tensor, counts: list[int], rank: int) -> Tensor | None:
    """All ranks' images on the first rank."""
    if len(counts) == 1:
        return mine
    if rank > 0:
        if len(mine):
            dist.send(mine.contiguous(), 0)
        return None
    whole = mine.new_empty((sum(counts), *mine.shape[1:]))
    parts = whole.split(counts)
    parts[0].copy_(mine)
    for source, part in enumerate(parts):
        if source > 0 and len(part):
            dist.recv(part, source)
    return whole


def _handed_out(whole: Tensor | None, spans: list[range], rank: int, *, like: Tensor) -> Tensor:
    """This rank's images, from the first rank, which has them all."""
    if whole is None:
        mine = like.new_empty((len(spans[rank]), *like.shape[1:]))
        if len(mine):
            dist.recv(mine, 0)
        return mine
    for target, span in enumerate(spans):
        if target > 0 and len(span):
            dist.send(whole[span.start : span.stop].contiguous(), target)
    return whole[spans[0].start : spans[0].stop]
