"""What every source of images has in common: names, labels, and a way to read one picture."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ._about import About
from ._numbers import Numbers, numbers_seen
from ._pixels import Picture, Reading, to_tensor, visible
from ._random import permutation

DIGEST_BYTES = 16
"""Length of the digest of an image: 128 bits, so that no two images of any collection share one by chance."""

AT_ONCE = 32
"""Images that are decoded one after another by whoever decodes them, and may be asked for together."""

Split = Literal["train", "test"] | None


class Origin(NamedTuple):
    """Where an image lies: in a file, and where it is only a part of one, from where on and how long. Of a file behind
    an address ``version`` is what its store says of the content (empty for nothing); None for one on a disk.
    """

    file: str
    start: int = 0
    size: int | None = None
    version: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its own on a disk."""
        return self.size is None and not self.start and self.version is None


def array_digest(pixels: NDArray) -> bytes:
    """A digest of numbers, their type and their shape."""
    digest = hashlib.blake2b(f"{pixels.dtype.str} {pixels.shape}".encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


class Source(ABC):
    """Images that are read one at a time, each with a display name and perhaps a label.

    ``labels`` holds positions in ``class_names``, -1 where an image has none. Both parts of a source that is
    split into training and test images share one list of class names. ``left_out`` names what was found and
    not listed, with the reason. ``location`` is the name under which it was opened, whatever the current folder;
    empty for images at hand, and for some of those of a name. ``in_memory`` says that the pixels are at hand: nothing
    is read or decoded. ``thread_safe`` says that threads may read it at once. ``reading`` is how pictures become
    squares of bytes. ``notes`` are sentences on what was taken for what, where that was a choice.
    """

    location = ""
    notes: tuple[str, ...] = ()
    in_memory = False
    thread_safe = True
    reading = Reading()

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        *,
        labels: NDArray[np.int64] | None = None,
        class_names: Sequence[str] = (),
        has_test_split: bool = False,
        unreadable: Sequence[tuple[str, str]] = (),
        left_out: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        self.paths = list(paths)
        self.labels = np.full(len(self.paths), -1, np.int64) if labels is None else labels.astype(np.int64)
        self.class_names = list(class_names)
        self.has_test_split = has_test_split
        self.unreadable = list(unreadable)
        self.left_out = list(left_out)
        if self.labels.shape != (len(self.paths),):
            raise ValueError(f"labels have shape {self.labels.shape}; expected ({len(self.paths)},).")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        labels = f"{len(self.class_names)} classes" if self.has_labels else "no labels"
        return f"{type(self).__name__}({self.name!r}, {len(self)} images, {labels})"

    @property
    def has_labels(self) -> bool:
        """Whether at least one image has a label."""
        return bool((self.labels >= 0).any())

    @property
    def in_chans(self) -> int:
        """How many channels the squares have: of ``reading``, or where it takes all, of the first readable picture."""
        channels = self.reading.channels
        if channels is not None and channels.number is not None:
            return channels.number
        seen = numbers_seen(self, 4)
        bands = seen[0][1].bands if seen else 3
        return 3 if channels is None and bands == 1 else bands

    @abstractmethod
    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        """Decode image ``i`` as an upright picture of 8 bits, with the channels of ``reading``.

        With ``at_least``, a decoder may save work by shrinking, never below that many pixels on the short
        side.

        Raises: UnreadableImageError with the reason in words.
        """

    def read(self, i: int, *, at_least: int | None = None) -> Tensor:
        """The pixels of :meth:`image`: uint8, shape (channels, h, w). Raises: UnreadableImageError."""
        return to_tensor(self.image(i, at_least=at_least))

    def dimensions(self, i: int) -> tuple[int, int]:
        """Width and height of image ``i`` as it is stored, EXIF aside; where it can be, without decoding it.

        Raises: UnreadableImageError.
        """
        return self.image(i).size

    def about(self, i: int) -> About:
        """What is told of image ``i`` before it is decoded. Raises: UnreadableImageError."""
        return About(*self.dimensions(i))

    def stored(self, i: int) -> Image.Image:
        """Image ``i`` as other programs may show it, before anything was decided. Raises: UnreadableImageError."""
        return visible(self.image(i))

    def numbers(self, i: int) -> Numbers:
        """What image ``i`` is stored as. Raises: UnreadableImageError."""
        return Numbers("uint8", 0, 255)

    def digest(self, i: int) -> bytes:
        """16 bytes that stand for what image ``i`` is decoded from: the bytes of its file, or the stored numbers.

        They depend on neither the name nor the place of the image: a folder and a zip of it have the same.

        Raises: UnreadableImageError where those bytes cannot be had.
        """
        return array_digest(self.read(i).numpy())

    def origin(self, i: int) -> Origin | None:
        """Where image ``i`` lies on the disk; None where it does not, or nobody knows."""
        return None

    def holds(self, i: int) -> bool:
        """Whether the numbers of image ``i`` are in memory, to be looked at without reading a file."""
        return self.in_memory

    def ahead(self, positions: Sequence[int]) -> AbstractContextManager[None]:
        """Within the block these images are read: a source that waits for each may ask for all of them at once."""
        return nullcontext()

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> "Source":
        """The images at these positions, in this order, with the same class names."""
        return Subset(self, np.asarray(indices, dtype=np.int64))

    def read_as(self, reading: Reading) -> Self:
        """The same images, which become squares of bytes in this way."""
        other = copy.copy(self)
        other.reading = reading
        return other

    def with_class_names(self, class_names: Sequence[str]) -> Self:
        """The same images, labelled by position in another list of classes; -1 where a class is not in it."""
        position = {name: k for k, name in enumerate(class_names)}
        table = np.array([position.get(name, -1) for name in self.class_names] + [-1], dtype=np.int64)
        other = copy.copy(self)
        other.labels, other.class_names = table[self.labels], list(class_names)
        return other


class Subset(Source):
    """Some of the images of another source."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(source)):
            raise ValueError(f"indices reach from {indices.min()} to {indices.max()}; {source!r} was given.")
        super().__init__(
            source.name,
            [source.paths[i] for i in indices],
            labels=source.labels[indices],
            class_names=source.class_names,
            has_test_split=source.has_test_split,
            unreadable=source.unreadable,
            left_out=source.left_out,
        )
        self.source, self.indices, self.notes = source, indices, source.notes
        self.in_memory, self.thread_safe, self.reading = source.in_memory, source.thread_safe, source.reading

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        return self.source.image(int(self.indices[i]), at_least=at_least)

    def read(self, i: int, *, at_least: int | None = None) -> Tensor:
        return self.source.read(int(self.indices[i]), at_least=at_least)

    def dimensions(self, i: int) -> tuple[int, int]:
        return self.source.dimensions(int(self.indices[i]))

    def about(self, i: int) -> About:
        return self.source.about(int(self.indices[i]))

    def stored(self, i: int) -> Image.Image:
        return self.source.stored(int(self.indices[i]))

    def numbers(self, i: int) -> Numbers:
        return self.source.numbers(int(self.indices[i]))

    def digest(self, i: int) -> bytes:
        return self.source.digest(int(self.indices[i]))

    def origin(self, i: int) -> Origin | None:
        return self.source.origin(int(self.indices[i]))

    def holds(self, i: int) -> bool:
        return self.source.holds(int(self.indices[i]))

    def ahead(self, positions: Sequence[int]) -> AbstractContextManager[None]:
        return self.source.ahead(self.indices[list(positions)].tolist())

    def read_as(self, reading: Reading) -> Self:
        other = super().read_as(reading)
        other.source = self.source.read_as(reading)
        return other


def stratified_split(
    labels: NDArray[np.int64], *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide positions into training and test, each class in the same proportion; -1 counts as a class.

    A class of k images gives round(k * test_fraction) to the test part, never all of them.

    Shape: labels (n,); two sorted int64 arrays.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; expected a number between 0 and 1.")
    order = permutation(len(labels), seed, 0).numpy()
    test = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        test.append(members[: min(round(len(members) * test_fraction), len(members) - 1)])
    chosen = np.sort(np.concatenate(test)) if test else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
