"""The images of an evaluation: to learn from, to be asked about, and out-of-distribution ones."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.data import (
    Source,
    Split,
    as_name,
    as_source,
    distinct_ends,
    fingerprint,
    is_picture,
    located,
    permutation,
    require_there,
    stratified_split,
)
from isosphere.errors import UsageError, option, wording
from isosphere.training import open_training_source
from isosphere.workflows._trained import IN_MEMORY, Trained, is_there


@dataclass(frozen=True)
class Splits:
    """Images to learn from and images to be asked about, and how they were split.

    `lacking`: which of them came without labels: ``images``, ``training images``, ``test images``, or none.
    `unreadable`: files that were found to be of no use before the images were split, and belong to neither part.
    """

    train: Source
    test: Source
    how: str
    lacking: str = ""
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def labelled(self) -> bool:
        return self.train.has_labels and self.test.has_labels

    def without_labels(self) -> str:
        """Which images have no labels and how these are given, where the images are not :attr:`labelled`."""
        if not self.lacking:
            known = ", ".join(self.train.class_names[:3]) + ", ..." * (len(self.train.class_names) > 3)
            return f"No test image is of a class of the training images ({known}): name the classes alike."
        at_hand = {
            "images": "labels=[...]",
            "training images": "labels=[...]",
            "test images": "test=isosphere.data.as_source(images, labels=[...])",
        }
        how = wording(
            shell="a folder for each class gives them",
            python=f"give {at_hand[self.lacking]}, or a folder for each class",
        )
        return f"The {self.lacking} have no labels: {how}."

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

    Raises: UsageError if either part has fewer than two images, or should have.
    """
    check_limit(limit)
    source = as_source(data, labels=labels, split="train")
    if test is not None:
        splits = _parts(source, _test_part(test, "test"), f"tested on {named(test)}")
    elif source.has_test_split and is_name(data):
        if labels is not None:
            raise UsageError(
                f"labels: {data} has a test part with labels of its own. Leave them out, or give test images too: "
                "test=isosphere.data.as_source(images, labels=[...])."
            )
        splits = _parts(
            _labelled(source), as_source(data, split="test"), "the data's own training and test parts"
        )
    else:
        learned, asked = stratified_split(source.labels, test_fraction=0.2, seed=seed)
        how = f"80/20, stratified, seed {seed}; the encoder may have seen the test images, without labels"
        splits = _parts(source.subset(learned), source.subset(asked), how)
    for part, name in ((splits.train, "training"), (splits.test, "test")):
        if len(part) < 2:
            raise UsageError(
                f"{part.name} has {len(part)} {name} images, and at least 2 are needed: give more images, or "
                f"{option('test', 'DATA')}."
            )
    shared = set(splits.test.unreadable) if test is None else set()
    return replace(
        splits,
        train=sample(splits.train, limit, seed),
        test=sample(splits.test, limit, seed),
        unreadable=tuple(item for item in splits.train.unreadable if item in shared),
    )


def choose_ood(data: Any, *, seed: int = 0, limit: int | None = None) -> dict[str, Source]:
    """OOD sets under short names of their own: their test part where they have one, else all their images.

    Args:
        data: one set, as :func:`isosphere.data.as_source` takes it, a list of sets, or a mapping of sets by name. A
            list of pictures is one set, a list of names several.

    Raises: UsageError for a set without images.
    """
    found: dict[str, Source] = {}
    sets = [(what, name, as_name(each) if is_name(each) else each) for what, name, each in _sets(data)]
    sources = [_test_part(spec, what) for what, _, spec in sets]
    called = [
        name or (str(spec).rstrip("/") if is_name(spec) else source.name)
        for (_, name, spec), source in zip(sets, sources, strict=True)
    ]
    if len(set(called)) == len(called) > 0:
        ends = distinct_ends(called)
    else:
        ends = [text.rsplit("/", 1)[-1] for text in called]
    alike = Counter(source.name for source in sources)
    for (what, _, spec), source, end in zip(sets, sources, ends, strict=True):
        if len(source) == 0:
            raise UsageError(f"{spec if is_name(spec) else what} has no images, and an OOD set needs some.")
        short = "".join(c if c.isalnum() or c in "-_.:=" else "-" for c in end)
        taken = {*found, "train", "test", "described"}  # these are the run's own
        names = (short, *(f"{short}-{i}" for i in range(2, len(sets) + 3)))
        name = next(n for n in names if n not in taken)
        if alike[source.name] > 1:  # two folders called night: their tables are to be told apart
            source = as_source(source, name=end if end != source.name else name)
        found[name] = sample(source, limit, seed)
    return found


def own_images(run: Trained) -> str | Source:
    """The images that a run was trained on: at hand, or where they lay then, whatever the current folder; where that is
    gone, what was typed for them, if it leads to the same images here.

    Raises: UsageError if it names none, or if they were in memory or are no longer where they were.
    """
    if run.images is not None:
        return run.images
    source = run.config.data.source
    if source is None:
        raise UsageError("the run does not say which images it was trained on: name some.")
    known = run.folder.read_images()
    kept = str(known.get("location") or "") if known.get("source") == source else ""
    if kept and is_there(kept):
        return kept
    try:
        require_there(source)
    except UsageError as error:
        if IN_MEMORY.fullmatch(source):
            raise UsageError(
                f"the run was trained on images in memory ({source}), and does not hold them: give them again."
            ) from error
        raise UsageError(
            f"the images that the run was trained on, {source}, are not here: name their place, or give them again "
            f"if they were in memory. {error}"
        ) from error
    if kept and not are_those(run, source):
        raise UsageError(
            f"the run was trained on images at {kept}, where there are none now, and {located(source)} holds others: "
            "name their place, or these if they are meant."
        )
    return source


def changed_images(run: Trained, data: Any) -> str | None:
    """A sentence where `data` is the place of the run's own images, and they are not what they were."""
    place = run.folder.read_images().get("location") or located(run.config.data.source or "")
    if not is_name(data) or located(data) != place or are_those(run, data):
        return None
    return f"The images in {data} have changed since the training (files added, removed, renamed or written anew)."


def are_those(run: Trained, data: str) -> bool:
    """Whether the images of the training lie there; of a run that does not say what it was trained on, they do."""
    before = run.folder.read_images().get("fingerprint")
    if not before:
        return True
    return fingerprint(open_training_source(run.config.replace(data={"source": str(data)}))) == before


def shown_part(data: Any) -> Source:
    """The test part of images that have one, else all of them; classes as of the training part."""
    source = as_source(data, split="train")
    if not (source.has_test_split and is_name(data)):
        return source
    return as_source(data, split="test").with_class_names(source.class_names)


def check_limit(limit: int | None) -> None:
    """Raises: UsageError for a number of images with which nothing can be compared."""
    if limit is not None and limit < 2:
        raise UsageError(f"{option('limit')}: got {limit}, expected at least 2 images.")


def named(data: Any) -> str:
    """What images were called: the text that names them, or the name of what was opened."""
    return str(data) if is_name(data) else as_source(data).name


def sample(source: Source, limit: int | None, seed: int) -> Source:
    """So many images of a source, drawn by the seed, in their order; all where there are fewer."""
    if limit is None or limit >= len(source):
        return source
    return source.subset(permutation(len(source), seed, 0)[:limit].sort().values.numpy())


def _parts(train: Source, test: Source, how: str) -> Splits:
    """Both parts, the test images labelled by the classes of the training images."""
    lacking = {
        (False, False): "images",
        (False, True): "training images",
        (True, False): "test images",
        (True, True): "",
    }[train.has_labels, test.has_labels]
    return Splits(train, test.with_class_names(train.class_names), how, lacking)


def _sets(data: Any) -> Iterator[tuple[str, str, Any]]:
    """OOD sets as they were given: how messages call each, its name if it was given one, and the set."""
    if isinstance(data, Mapping):
        yield from ((f'{option("ood")}["{name}"]', str(name), each) for name, each in data.items())
    elif isinstance(data, (list, tuple)) and not (data and is_picture(data[0])):
        yield from ((f"{option('ood')}[{i}]", "", each) for i, each in enumerate(data))
    elif data is not None:
        yield option("ood"), "", data


def is_name(data: Any) -> bool:
    """Whether images were named, not given as such."""
    return isinstance(data, (str, Path))


def _test_part(data: Any, what: str) -> Source:
    source = as_source(data, what=what)
    part: Split = "test" if source.has_test_split and is_name(data) else None
    return as_source(data, split=part) if part else source


def _labelled(source: Source) -> Source:
    """The labelled images, where there are labels: of STL-10's training part a twentieth."""
    some = source.has_labels and bool((source.labels < 0).any())
    return source.subset(np.flatnonzero(source.labels >= 0)) if some else source
