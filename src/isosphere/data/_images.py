"""A whole source in memory: square uint8 images of one size, or pictures that keep their shape."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere.errors import RunError, option, plural

from ._labels import alike_classes
from ._limits import UnreadableImageError
from ._numbers import whose
from ._pictures import Pictures
from ._source import AT_ONCE, DIGEST_BYTES, Source
from ._whole import whole

_NAMED = 300  # of files that cannot be read, where they are to be repaired


class _InMemory:
    """What sets of images in memory have in common."""

    images: Any
    labels: NDArray[np.int64]
    paths: list[str]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_labels(self) -> bool:
        """Whether at least one image has a label."""
        return bool((self.labels >= 0).any())

    def subset(self, indices: NDArray[np.int64] | list[int]) -> Self:
        """The images at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        images = self.images[torch.from_numpy(chosen).to(self.images.device)]
        paths = [self.paths[i] for i in chosen]
        return replace(self, images=images, labels=self.labels[chosen], paths=paths)  # type: ignore[type-var]


@dataclass(frozen=True)
class ImageSet(_InMemory):
    """Square images in memory, and the files that could not be read.

    Shape: images uint8 (n, channels, size, size), labels int64 (n,) with -1 for none, paths n names.
    """

    images: Tensor
    labels: NDArray[np.int64]
    paths: list[str]
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    name: str = "images"

    @property
    def size(self) -> int:
        """Width and height of every image."""
        return self.images.shape[-1]


@dataclass(frozen=True)
class PictureSet(_InMemory):
    """As :class:`ImageSet`, of pictures that keep their shape: the short side of each is ``size``."""

    images: Pictures
    labels: NDArray[np.int64]
    paths: list[str]
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    name: str = "images"

    @property
    def size(self) -> int:
        """The short side of every picture."""
        return min(self.images.shapes[0][1:])


def images_bytes(count: int, size: int, in_chans: int = 3) -> int:
    """Memory that so many square images take, to choose between holding and streaming them."""
    return in_chans * count * size**2


def name_skipped(skipped: Iterable[tuple[str, str]], limit: int = 3) -> str:
    """List the first unreadable files with their reasons, and count the rest."""
    everything = list(skipped)
    named = "; ".join(f"{path} ({reason})" for path, reason in everything[:limit])
    return named + (f"; and {len(everything) - limit} more" if len(everything) > limit else "")


def square(source: Source, i: int, size: int) -> Tensor:
    """Image ``i`` as all parts of the package see it, by the source's `Reading`: uint8 (channels, size, size).

    Raises: UnreadableImageError.
    """
    return source.reading.square(source.image(i, at_least=source.reading.at_least(size)), size)


def load_images(
    source: Source,
    size: int,
    *,
    strict: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Decode every image of a source as a square, by the source's `Reading`: the central one unless it says otherwise.

    Unreadable images are left out and listed in ``skipped``. ``progress`` is called with (done, total).

    Shape: images uint8 (n, channels, size, size).
    Raises: RunError if nothing can be read or memory does not suffice, or with ``strict`` if anything cannot
    be read.
    """
    found = read_images(source, size, workers=workers, progress=progress)
    require_readable(source, len(found), found.skipped, strict=strict)
    return found


def load_pictures(
    source: Source,
    size: int,
    *,
    strict: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet | PictureSet:
    """As :func:`load_images`, each picture with its short side brought to ``size`` and, up to 4 times as long, nothing
    cut; as an :class:`ImageSet` where all are square.
    """
    found = read_pictures(source, size, workers=workers, progress=progress)
    require_readable(source, len(found), found.skipped, strict=strict)
    return found


def read_images(
    source: Source,
    size: int,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """As :func:`load_images`, but a source of which nothing can be read gives a set of no images.

    Raises: RunError if memory does not suffice.
    """
    found = _read(source, size, square, workers, progress)
    assert isinstance(found, ImageSet)
    return found


def read_pictures(
    source: Source,
    size: int,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet | PictureSet:
    """As :func:`load_pictures`, but a source of which nothing can be read gives a set of no images.

    Raises: RunError if memory does not suffice.
    """
    return _read(source, size, whole, workers, progress)


def _read(
    source: Source,
    size: int,
    picture: Callable[[Source, int, int], Tensor],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> ImageSet | PictureSet:
    if size < 1:
        raise ValueError(f"size is {size}; expected at least 1 pixel.")
    total, in_chans = len(source), source.in_chans
    try:
        images = torch.empty((total, in_chans, size, size), dtype=torch.uint8)
    except (RuntimeError, MemoryError) as error:
        raise RunError(
            f"{total} images of {size} x {size} pixels need {images_bytes(total, size, in_chans) / 2**30:.1f} GiB of "
            "memory, which this machine does not give. Take smaller or fewer images, or let the loader "
            "read them as it goes."
        ) from error
    reasons: dict[int, str] = {}
    others: dict[
        int, Tensor
    ] = {}  # that are not square; the system gives no memory to rows that are never written

    def decode(i: int) -> None:
        try:
            found = picture(source, i, size)
            if found.shape == images.shape[1:]:
                images[i] = found
            else:
                others[i] = found
        except UnreadableImageError as error:
            reasons[i] = str(error)

    _for_each(source, decode, workers, progress)
    failed = sorted(reasons)
    skipped = [(source.paths[i], reasons[i]) for i in failed] + source.unreadable
    kept = np.setdiff1d(np.arange(total), failed)
    paths = [source.paths[i] for i in kept]
    rest = source.labels[kept], paths, source.class_names, skipped, source.name
    if others:
        return PictureSet(Pictures([others.get(i, images[i]) for i in kept.tolist()]), *rest)
    for k, i in enumerate(kept):  # in place: a copy would need the memory twice
        if k != i:
            images[k] = images[i]
    return ImageSet(images[: len(kept)], *rest)


def digests(
    source: Source, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.int64]:
    """:meth:`Source.digest` of every image; zeros, which no image has, where the bytes cannot be had.

    Shape: int64 (n, 2).
    """
    found = np.zeros((len(source), DIGEST_BYTES // 8), np.int64)

    def digest(i: int) -> None:
        with suppress(UnreadableImageError):
            found[i] = np.frombuffer(source.digest(i), np.int64)

    _for_each(source, digest, workers, progress)
    return found


def _for_each(
    source: Source, do: Callable[[int], None], workers: int, progress: Callable[[int, int], None] | None
) -> None:
    """Do something for each image, in threads: decoding and reading release Python's lock."""
    total = len(source)

    def part(start: int) -> int:
        stop = min(start + AT_ONCE, total)
        with source.ahead(range(start, stop)):
            for i in range(start, stop):
                do(i)
        return stop

    pool = ThreadPoolExecutor(max(1, workers) if source.thread_safe else 1)
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow's remarks on broken metadata
            for done in pool.map(part, range(0, total, AT_ONCE)):
                if progress is not None:
                    progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C, wait for the chunks in hand only


def require_readable(source: Source, read: int, skipped: list[tuple[str, str]], *, strict: bool) -> None:
    """Refuse a source of which nothing can be read, or with `strict` anything cannot.

    Raises: RunError that names the first files that cannot be read.
    """
    of = whose(source.name)
    if strict and skipped:
        raise RunError(
            f"{plural(len(skipped), 'image')}{of} cannot be read: {name_skipped(skipped, _NAMED)}. Remove or repair "
            f"{'it' if len(skipped) == 1 else 'them'}, or leave out {option('strict')} to go on with the other {read}."
        )
    if read == 0:
        only = len(source) == 1
        none = f"The only image{of} cannot" if only else f"None of the {len(source)} images{of} can"
        reasons = f": {name_skipped(skipped)}" if skipped else ""
        raise RunError(f"{none} be read{reasons}. Give images that an image viewer opens.")


def left_out(skipped: Sequence[tuple[str, str]], whose: str = "") -> str:
    """A sentence on files that cannot be used, for people; `whose` they are, such as ``the test images``."""
    of, verb = f" of {whose}" if whose else "", "is" if len(skipped) == 1 else "are"
    cannot = f"{plural(len(skipped), 'file')}{of} cannot be used and {verb} left out"
    return f"{cannot}: {name_skipped(skipped)}."


def set_aside(source: Source, whose: str = "") -> str | None:
    """Sentences on what was found with the images of a source and is none of them, such as those of ``val/`` beside
    ``train/`` and ``test/``, and on what was taken for what; None where there is nothing.
    """
    of = f" of {whose}" if whose else ""
    aside = [f"Not among the images{of}: {name_skipped(source.left_out)}."] if source.left_out else []
    return " ".join(filter(None, [*aside, *source.notes, alike_classes(source.class_names)])) or None
