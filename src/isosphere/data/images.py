"""A whole source in memory: square uint8 images of one size."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere.errors import RunError

from .decode import UnreadableImageError, fit_square
from .source import Source, to_tensor

__all__ = ["ImageSet", "load_images", "name_skipped"]


@dataclass(frozen=True)
class ImageSet:
    """Square images in memory, and the files that could not be read.

    Shape: images uint8 (n, 3, size, size), labels int64 (n,) with -1 for none, paths n names.
    """

    images: Tensor
    labels: NDArray[np.int64]
    paths: list[str]
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    name: str = "images"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Width and height of every image."""
        return self.images.shape[-1]

    @property
    def has_labels(self) -> bool:
        """Whether at least one image has a label."""
        return bool((self.labels >= 0).any())

    def subset(self, indices: NDArray[np.int64] | list[int]) -> "ImageSet":
        """The images at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        paths = [self.paths[i] for i in chosen]
        images = self.images[torch.from_numpy(chosen).to(self.images.device)]
        return ImageSet(images, self.labels[chosen], paths, self.class_names, self.skipped, self.name)


def name_skipped(skipped: list[tuple[str, str]], limit: int = 3) -> str:
    """List the first unreadable files with their reasons, and count the rest."""
    named = "; ".join(f"{path} ({reason})" for path, reason in skipped[:limit])
    return named + (f"; and {len(skipped) - limit} more" if len(skipped) > limit else "")


def load_images(
    source: Source,
    size: int,
    *,
    strict: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Decode every image of a source: short side to ``size`` (antialiased bicubic), centre crop.

    Unreadable images are left out and listed in ``skipped``. ``progress`` is called with (done, total).

    Shape: images uint8 (n, 3, size, size).
    Raises: RunError if nothing can be read, or with ``strict`` if anything cannot.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected at least 1 pixel.")
    total = len(source)
    images = torch.empty((total, 3, size, size), dtype=torch.uint8)
    reasons: dict[int, str] = {}

    def decode(i: int) -> None:
        try:
            images[i] = to_tensor(fit_square(source.image(i, at_least=2 * size), size))
        except UnreadableImageError as error:
            reasons[i] = str(error)

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(max(1, workers)) as pool:
        for done, _ in enumerate(pool.map(decode, range(total), chunksize=1), start=1):
            if progress is not None and (done % 64 == 0 or done == total):
                progress(done, total)

    skipped = [(source.paths[i], reasons[i]) for i in sorted(reasons)]
    if strict and skipped:
        raise RunError(
            f"{len(skipped)} of {total} images of {source.name} cannot be read: {name_skipped(skipped)}. Remove "
            "or repair them, or leave out --strict to go on without them."
        )
    if len(skipped) == total:
        raise RunError(f"None of the {total} images of {source.name} can be read: {name_skipped(skipped)}.")
    kept = np.array([i for i in range(total) if i not in reasons], dtype=np.int64)
    if skipped:
        images = images[torch.from_numpy(kept)]
    return ImageSet(
        images,
        source.labels[kept],
        [source.paths[i] for i in kept],
        source.class_names,
        skipped + source.left_out,
        source.name,
    )
