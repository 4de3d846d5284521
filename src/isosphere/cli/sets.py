"""The images of an evaluation: to learn from, to be asked about, and foreign ones."""

from dataclasses import dataclass

import numpy as np

from isosphere.data import Source, open_source, permutation, stratified_split
from isosphere.errors import UsageError

__all__ = ["Sets", "choose_outside", "choose_sets"]


@dataclass(frozen=True)
class Sets:
    """Images to learn from and images to be asked about, and how they were divided."""

    train: Source
    test: Source
    division: str

    @property
    def labelled(self) -> bool:
        return self.train.has_labels and self.test.has_labels

    @property
    def texture(self) -> bool:
        return self.test.name.startswith("textures:")


def choose_sets(data: str, test: str | None, *, seed: int, limit: int | None) -> Sets:
    """Divide the images: a test set that is named, or comes with the data, or every fifth image by the seed.

    Raises: UsageError if either part is empty.
    """
    source = open_source(data, split="train")
    if test is not None:
        other = open_source(test)
        other = open_source(test, split="test") if other.has_test_split else other
        sets = Sets(source, other.with_class_names(source.class_names), f"tested on {test}")
    elif source.has_test_split:
        other = open_source(data, split="test").with_class_names(source.class_names)
        sets = Sets(_labelled(source), other, "the data's own training and test parts")
    else:
        learned, asked = stratified_split(source.labels, test_fraction=0.2, seed=seed)
        division = (
            f"80/20, stratified, seed {seed}; the encoder may have seen the test images, without labels"
        )
        sets = Sets(source.subset(learned), source.subset(asked), division)
    for part, name in ((sets.train, "training"), (sets.test, "test")):
        if len(part) < 2:
            raise UsageError(
                f"{part.name} has {len(part)} {name} images, and at least 2 are needed: give more images, or "
                "--test DATA."
            )
    return Sets(_some(sets.train, limit, seed), _some(sets.test, limit, seed), sets.division)


def _labelled(source: Source) -> Source:
    """The labelled images, where there are labels: of STL-10's training part a twentieth."""
    some = source.has_labels and bool((source.labels < 0).any())
    return source.subset(np.flatnonzero(source.labels >= 0)) if some else source


def choose_outside(data: list[str], *, seed: int, limit: int | None) -> dict[str, Source]:
    """Foreign sets under short names of their own: their test part where they have one, else all their images.

    Raises: UsageError for a set without images.
    """
    found: dict[str, Source] = {}
    for spec in data:
        source = open_source(spec)
        source = open_source(spec, split="test") if source.has_test_split else source
        if len(source) == 0:
            raise UsageError(f"{source.name} has no images, and --ood needs some.")
        short = "".join(
            c if c.isalnum() or c in "-_.:=" else "-" for c in spec.rstrip("/").rsplit("/", 1)[-1]
        )
        taken = {*found, "train", "test"}  # these two are the run's own
        name = next(n for n in (short, *(f"{short}-{i}" for i in range(2, len(data) + 3))) if n not in taken)
        found[name] = _some(source, limit, seed)
    return found


def _some(source: Source, limit: int | None, seed: int) -> Source:
    if limit is None or limit >= len(source):
        return source
    return source.subset(permutation(len(source), seed, 0)[:limit].sort().values.numpy())
