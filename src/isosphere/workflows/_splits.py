"""The images of an evaluation: to learn from, to be asked about, and out-of-distribution ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.data import Source, Split, as_source, permutation, stratified_split
from isosphere.errors import UsageError, option


@dataclass(frozen=True)
class Splits:
    """Images to learn from and images to be asked about, and how they were split."""

    train: Source
    test: Source
    how: str

    @property
    def labelled(self) -> bool:
        return self.train.has_labels and self.test.has_labels

    @property
    def textures(self) -> bool:
        return self.test.name.startswith("textures:")


def choose_splits(
    data: Any,
    test: Any = None,
    *,
    labels: Sequence[int] | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Splits:
    """Split the images: a test set that is named, or comes with the data, or every fifth image by the seed.

    Args:
        data, test: as :func:`isosphere.data.as_source` takes them. limit: images of each part, drawn by the seed.

    Raises: UsageError if either part is empty.
    """
    source = as_source(data, labels=labels, split="train")
    if test is not None:
        other = _test_part(test)
        splits = Splits(source, other.with_class_names(source.class_names), f"tested on {named(test)}")
    elif source.has_test_split:
        other = as_source(data, split="test").with_class_names(source.class_names)
        splits = Splits(_labelled(source), other, "the data's own training and test parts")
    else:
        learned, asked = stratified_split(source.labels, test_fraction=0.2, seed=seed)
        how = f"80/20, stratified, seed {seed}; the encoder may have seen the test images, without labels"
        splits = Splits(source.subset(learned), source.subset(asked), how)
    for part, name in ((splits.train, "training"), (splits.test, "test")):
        if len(part) < 2:
            raise UsageError(
                f"{part.name} has {len(part)} {name} images, and at least 2 are needed: give more images, or "
                f"{option('test', 'DATA')}."
            )
    return Splits(sample(splits.train, limit, seed), sample(splits.test, limit, seed), splits.how)


def choose_ood(data: Sequence[Any], *, seed: int = 0, limit: int | None = None) -> dict[str, Source]:
    """OOD sets under short names of their own: their test part where they have one, else all their images.

    Raises: UsageError for a set without images.
    """
    found: dict[str, Source] = {}
    for spec in data:
        source = _test_part(spec)
        if len(source) == 0:
            raise UsageError(f"{source.name} has no images, and an OOD set needs some.")
        last = named(spec).rstrip("/").rsplit("/", 1)[-1]
        short = "".join(c if c.isalnum() or c in "-_.:=" else "-" for c in last)
        taken = {*found, "train", "test", "described"}  # these are the run's own
        name = next(n for n in (short, *(f"{short}-{i}" for i in range(2, len(data) + 3))) if n not in taken)
        found[name] = sample(source, limit, seed)
    return found


def named(data: Any) -> str:
    """What images were called: the text that names them, or the name of what was opened."""
    return str(data) if isinstance(data, (str, Path)) else as_source(data).name


def sample(source: Source, limit: int | None, seed: int) -> Source:
    """So many images of a source, drawn by the seed, in their order; all where there are fewer."""
    if limit is None or limit >= len(source):
        return source
    return source.subset(permutation(len(source), seed, 0)[:limit].sort().values.numpy())


def _test_part(data: Any) -> Source:
    source = as_source(data)
    part: Split = "test" if source.has_test_split and isinstance(data, (str, Path)) else None
    return as_source(data, split=part) if part else source


def _labelled(source: Source) -> Source:
    """The labelled images, where there are labels: of STL-10's training part a twentieth."""
    some = source.has_labels and bool((source.labels < 0).any())
    return source.subset(np.flatnonzero(source.labels >= 0)) if some else source
