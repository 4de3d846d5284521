"""Where decoded images are kept during a training: in memory, on the disk where that does not hold them, or nowhere."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from isosphere.data import (
    DecodedCache,
    ImageSet,
    PictureSet,
    Shapes,
    Source,
    disk_room,
    images_bytes,
    load_images,
    load_pictures,
    name_skipped,
    open_decoded,
)
from isosphere.devices import free_memory, host_memory
from isosphere.errors import UsageError, option
from isosphere.training._config import Config
from isosphere.training._distributed import launched

if TYPE_CHECKING:
    from lightning.fabric import Fabric

LoadProgress = Callable[[int, int], None]

IN_MEMORY = 4 * 2**30
"""Bytes of decoded images up to which all are kept in the memory of a CPU, which is used for other things too; beyond,
workers decode them as they are needed.
"""
ON_DISK = 32 * 2**30
"""Bytes of decoded images that are kept on the disk at the most, if nobody says how many."""
_SHARE = 4
"""On an accelerator: as much as a quarter of what it has free, and of this process's part of the host's memory, through
which they come.
"""
_PAGE = 4096  # of what the disk keeps, each picture leaves half of one empty, and its key takes some


def memory_room(fabric: "Fabric") -> int:
    """Bytes of decoded images that are kept in memory, the same on all ranks."""
    there, here = free_memory(fabric.device), host_memory()
    if there is None or here is None:
        return IN_MEMORY
    return int(fabric.broadcast(min(there, here // launched()[0]) // _SHARE))


def in_memory(
    config: Config, source: Source, shapes: Shapes, progress: LoadProgress | None, fabric: "Fabric"
) -> tuple[ImageSet | PictureSet | Source, tuple[str, ...]]:
    """The images in memory where they fit, else the source; and what a person should know about unreadable ones."""
    size, whole = config.data.canvas_size or 0, config.data.whole
    if len(source) * _bytes_each(config, shapes) > memory_room(fabric):
        return source, ()
    images = (load_pictures if whole else load_images)(
        source, size, strict=config.data.strict, workers=max(1, config.data.workers), progress=progress
    )
    if not images.skipped:
        return images, ()
    count = len(images.skipped)
    return images, (
        f"{count} of {count + len(images)} files cannot be used and {'is' if count == 1 else 'are'} skipped: "
        f"{name_skipped(images.skipped)}.",
    )


def on_disk(
    config: Config, images: ImageSet | PictureSet | Source, shapes: Shapes, fabric: "Fabric"
) -> tuple[DecodedCache | None, dict[str, str]]:
    """Where images that memory does not hold are kept, and a fact on it; None where each epoch decodes them.

    Raises: UsageError if it was asked for and LMDB is not installed.
    """
    asked = config.data.cache
    if asked == 0 or not isinstance(images, Source) or images.in_memory or _passes(config, len(images)) <= 1:
        return None, {}
    needed = int(len(images) * (_bytes_each(config, shapes) + _PAGE))
    if not _has_lmdb():
        if asked is not None:
            raise UsageError(
                f"{option('data.cache', asked)} needs LMDB, which is not installed. Type: pip install lmdb, or "
                "leave it out."
            )
        return None, {
            "decoding": f"anew in each epoch; after pip install lmdb about {_gib(needed)} on the disk spare that"
        }
    limit = disk_room(ON_DISK) if asked is None else int(asked * 2**30)
    limit = int(fabric.broadcast(limit))
    size, whole = config.data.canvas_size or 0, config.data.whole
    opened = partial(open_decoded, images, size, whole=whole, limit=limit, needed=needed)
    # The first rank of a host makes room; the others find it made, and have the same limit.
    cache = opened() if fabric.local_rank == 0 else None
    fabric.barrier()
    cache = cache or opened()
    share = "" if needed <= cache.limit else f", room for {cache.limit / needed:.0%} of them"
    otherwise, most = option("data.cache", 0), _gib(min(needed, cache.limit))
    return cache, {
        "decoding": f"once; then from {cache.folder}, at most {most}{share} ({otherwise}: anew in each epoch)"
    }


def _has_lmdb() -> bool:
    try:
        import lmdb  # noqa: F401
    except ImportError:
        return False
    return True


def _bytes_each(config: Config, shapes: Shapes) -> float:
    data = config.data
    return shapes.bytes_each if data.whole else images_bytes(1, data.canvas_size or 0, data.in_chans)


def _passes(config: Config, count: int) -> float:
    """How often each image is read; a training of so many minutes may go on."""
    train = config.train
    if train.minutes is not None:
        return float("inf")
    return (train.epochs or 1) * (config.data.epoch_images or count) / count


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
