"""Images with labels, and which of them have to stay on one side of a split."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere.data import Source, alike_classes, digests, match_labels, read_label_file
from isosphere.deploy import near_duplicates, source_of
from isosphere.errors import UsageError, command, option, plural
from isosphere.evaluation import joined_groups
from isosphere.workflows._copies import sample_copies
from isosphere.workflows._progress import Callback
from isosphere.workflows._run import Run

FEWEST = 10
"""Labelled images, at the least."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The labelled images of a source: `labels` are positions in `class_names`; images with one number in `groups` stay
    on one side of a split; `remarks` are sentences on what was left out and how groups came about.
    """

    source: Source
    labels: Tensor
    class_names: tuple[str, ...]
    groups: Tensor
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)


def labelled_images(
    run: Run,
    data: Any,
    labels: str | Path | None,
    *,
    group: str | None = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> LabelledImages:
    """The images of `data` that have a label, by a file or by their folders, with groups of near-duplicates.

    Near-duplicates are found by the layer of `run` that finds copies best, at a threshold chosen on copies
    (:meth:`isosphere.Run.dedup`); where it would put more than a quarter of the images into one group, those alone are
    taken whose content is the same.

    Args:
        labels: a table with columns label and path or digest (:func:`isosphere.data.match_labels`); None: the classes
            of the images.
        group: a column of it; images with the same entry stay together too.

    Raises: UsageError for fewer than 10 labelled images or two classes, or a file that is no table of labels.
    """
    whole = source_of(data)
    known = digests(whole)
    remarks: list[str] = []
    given = np.full(len(whole), -1, np.int64)
    if labels is None:
        if group is not None:
            raise UsageError(
                f"{option('group', group)} is a column of {option('labels', 'FILE')}: give it too."
            )
        positions, names = whole.labels, list(whole.class_names)
        remarks = [alike] if (alike := alike_classes(names)) else []
    else:
        found = match_labels(whole, read_label_file(labels), group=group, known=known)
        positions, names, given, remarks = found.labels, found.class_names, found.groups, found.remarks
    chosen = np.flatnonzero(positions >= 0)
    classes = np.unique(positions[chosen])
    if len(chosen) < FEWEST or len(classes) < 2:
        where = "" if labels is None else f" of {labels}"
        raise UsageError(
            f"{plural(len(chosen), 'image')} of {len(whole):,} {'has' if len(chosen) == 1 else 'have'} a label{where}, "
            f"in {plural(len(classes), 'class').replace('classs', 'classes')}; expected at least {FEWEST}, in two. "
            f"Give a table of labels ({option('labels', 'FILE')}), a folder for each class, or label images in "
            f"{command('explore', run.folder.path)}. " + " ".join(remarks)
        )
    source = whole.subset(chosen)
    same = _numbers(known[chosen])
    near, said = _near(run, source, seed, progress)
    groups = joined_groups(same, near, torch.from_numpy(given[chosen]))
    together = len(groups) - len(groups.unique())
    if together:
        remarks.append(
            f"{plural(together, 'image')} of {len(groups):,} {'stays' if together == 1 else 'stay'} with another one "
            f"on one side of each split: near-duplicates{'' if group is None else f', and the column {group}'}."
        )
    return LabelledImages(
        source, torch.from_numpy(positions[chosen]), tuple(names), groups, [*remarks, *said]
    )


def _numbers(known: NDArray[np.int64]) -> Tensor:
    """The same number for the same content; -1 where it is not known."""
    seen: dict[bytes, int] = {}
    return torch.tensor([seen.setdefault(row.tobytes(), len(seen)) if row.any() else -1 for row in known])


def _near(run: Run, source: Source, seed: int, progress: Callback | None) -> tuple[Tensor, list[str]]:
    """Numbers of groups of near-duplicates, -1 for images without any; and what is to be said of them."""
    settled, _ = run.settled(source)
    sample = sample_copies(settled, source, seed=seed, progress=progress)
    index = settled.index(source, layer=sample.best, progress=progress)
    threshold = sample.choose(index).threshold
    found = near_duplicates(index.unit, threshold)
    numbers = torch.full((len(source),), -1)
    if found and len(found[0]) > max(10, len(source) // 4):
        return numbers, [
            "Near-duplicates cannot be told by this network: only images with the same content stay together."
        ]
    assert index.positions is not None
    for number, group in enumerate(found):
        numbers[torch.from_numpy(index.positions[list(group.rows)])] = number
    return numbers, []
