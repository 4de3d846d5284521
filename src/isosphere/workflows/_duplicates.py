"""Near-duplicates in a set of images or between sets, at a threshold that is chosen on copies of them."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere.atomic import write_bytes, write_text
from isosphere.data import Source, White, same_place
from isosphere.deploy import (
    DuplicateGroup,
    Index,
    Keep,
    Layer,
    Pair,
    near_duplicates,
    nearest_pair,
    pairs_near,
    rows_to_drop,
)
from isosphere.errors import UsageError, option, plural
from isosphere.evaluation import CopyThreshold, Estimate, pair_precision
from isosphere.reading import UnreadableError, read_text
from isosphere.report import Card, PairCards, pairs_page
from isosphere.tabular import csv_rows, csv_text
from isosphere.workflows._copies import CopySample
from isosphere.workflows._shown import Shown, duplicate_groups, pictures_of


@dataclass(frozen=True)
class Precision:
    """Share of copies among the answered pairs at or above a threshold, and among those below it; how many answers were
    left out, since their pairs are not compared.
    """

    above: Estimate
    below: Estimate
    left_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = {"precision": self.above, "below": self.below}
        shares = {name: None if each.value != each.value else each.as_dict() for name, each in named.items()}
        return {**shares, "left_out": self.left_out}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was compared: the index of the images, of which source, the set that each row belongs to (None: one set),
    what the threshold rests on, and how the layers do on copies.
    """

    index: Index
    source: Source
    sets: NDArray[np.int64] | None
    threshold: float
    measured: CopyThreshold | None
    sample: CopySample | None
    white: White | None = None
    links: int = 0

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """For each row a number that it shares with the rows at the same path (:func:`isosphere.data.same_place`)."""
        assert self.index.positions is not None
        return same_place(self.source)[self.index.positions]

    @cached_property
    def shared(self) -> list[tuple[int, int]]:
        """The images whose paths are in several sets: the first two rows of each."""
        seen: dict[int, list[int]] = {}
        for row, place in enumerate(self.places.tolist() if self.sets is not None else []):
            seen.setdefault(place, []).append(row)
        return [(rows[0], rows[1]) for rows in seen.values() if len(rows) > 1]


class Duplicates(Shown[DuplicateGroup]):
    """Groups of near-duplicates, the largest first; a notebook shows their pictures.

    ``threshold`` and ``layer`` are those that were taken; ``measured`` says what the threshold finds of copies that
    were made, and how many false pairs are to be expected (:class:`isosphere.evaluation.CopyThreshold`), None where it
    was given. ``near(40)`` are the pairs nearest to the threshold, ``drop("sharpest")`` the images that repeat one that
    is kept.
    """

    def __init__(
        self, groups: Sequence[DuplicateGroup], compared: Comparison, data: Any, reading: Any
    ) -> None:
        super().__init__(groups, partial(duplicate_groups, data, reading=reading))
        self.compared = compared
        self._again = partial(grouped, data=data, reading=reading)

    def at(self, threshold: float) -> "Duplicates":
        """The groups of the same images at another threshold, and what is to be expected of it."""
        check_threshold(threshold)
        compared, measured = self.compared, None
        if compared.sample is not None:
            pairs = pairs_compared(compared.sets)
            measured = compared.sample.choose(compared.index, threshold=threshold, pairs=pairs)
        return self._again(replace(compared, threshold=threshold, measured=measured))

    @property
    def threshold(self) -> float:
        """The cosine from which two images are linked."""
        return self.compared.threshold

    @property
    def layer(self) -> Layer:
        """The features that were compared."""
        return self.compared.index.layer

    @property
    def measured(self) -> CopyThreshold | None:
        """What the threshold finds, and how many false pairs are to be expected."""
        return self.compared.measured

    @property
    def repeated(self) -> int:
        """Images that repeat another one."""
        return sum(len(group) - 1 for group in self)

    @property
    def basis(self) -> dict[str, str]:
        """What the threshold rests on, in words; empty where it was given."""
        measured, sample = self.measured, self.compared.sample
        if measured is None or sample is None:
            return {}
        recall, expected = measured.recall, measured.false_pairs
        kinds = ", ".join(
            f"{_KINDS.get(kind, kind)} {each.value:.0%}" for kind, each in measured.recalls.items()
        )
        precisions = ", ".join(f"{layer} {100 * each.value:.1f}" for layer, each in sample.precision.items())
        best = (
            ""
            if len(sample.precision) < 2
            else f", which finds copies best (average precision, %: {precisions})"
        )
        return {
            "threshold": f"cosine {self.threshold:.4f} on layer {self.layer}{best}",
            "copies found": f"{recall.value:.1%} [{recall.low:.1%}, {recall.high:.1%}] of {measured.copies} made of "
            f"these images to measure it: {kinds}",
            "false pairs": f"not known: too few images ({measured.pairs:,} pairs)"
            if expected is None
            else f"about {expected:.2g} expected among {measured.pairs:,} pairs of different images",
        }

    @property
    def caution(self) -> str | None:
        """What to do where the threshold misses many copies; else None."""
        return self.caution_by(f"Allow more false pairs ({option('false_pairs', 20)})")

    def caution_by(self, step: str) -> str | None:
        """The same with another first step: what finds more copies, and more that are none."""
        measured = self.measured
        if measured is None or measured.recall.value >= ENOUGH:
            return None
        return (
            f"{step}, or take another network: at this threshold "
            f"{1 - measured.recall.value:.0%} of the copies are missed: other images are as alike to this network."
        )

    @property
    def in_several_sets(self) -> str | None:
        """A sentence on the images whose very paths are in several sets; None where there are none."""
        shared, paths = self.compared.shared, self.compared.index.paths
        if not shared:
            return None
        one, (a, b) = len(shared) == 1, shared[0]
        return (
            f"{plural(len(shared), 'image')} {'is' if one else 'are'} in several sets by the same path ({paths[a]} is "
            f"{paths[b]}): {'it repeats itself' if one else 'they repeat themselves'}, and a file is either kept or "
            "dropped."
        )

    def as_dict(self, precision: Precision | None = None) -> dict[str, Any]:
        """For JSON, with the precision that answers gave."""
        measured, sample, close = self.measured, self.compared.sample, None if self else self.nearest()
        made: dict[str, Any] = {
            "threshold": self.threshold,
            "layer": self.layer,
            "images": len(self.compared.index),
            "groups": [self.members(group) for group in self],
            "nearest": None if close is None else self.members(close),
        }
        if self.compared.sets is not None:
            made["in_several_sets"] = len(self.compared.shared)
        if measured is not None and sample is not None:
            made["copies"] = {
                "made": measured.copies,
                "recall": measured.recall.as_dict(),
                "by_kind": {kind: each.as_dict() for kind, each in measured.recalls.items()},
                "average_precision": {layer: each.as_dict() for layer, each in sample.precision.items()},
            }
            made |= {"pairs": measured.pairs, "false_pairs": measured.false_pairs}
        if precision is not None:
            made["answers"] = precision.as_dict()
        return made

    def members(self, group: DuplicateGroup) -> list[dict[str, Any]]:
        """Name of each image of a group, its set (from 1, where there are several) and its cosine to the image most
        like it.
        """
        sets = self.compared.sets
        return [
            {"path": path}
            | ({} if sets is None else {"set": int(sets[row]) + 1})
            | {"similarity": round(cosine, 6)}
            for path, row, cosine in zip(group.paths, group.rows, group.similarities, strict=True)
        ]

    def near(self, count: int = 40) -> list[Pair]:
        """The pairs whose cosines are nearest to the threshold, half of them above it."""
        index = self.compared.index
        return pairs_near(index.unit, self.threshold, count, index.paths, sets=self.compared.sets)

    def nearest(self) -> DuplicateGroup | None:
        """The two images that are most alike."""
        index = self.compared.index
        return nearest_pair(index.unit, index.paths, sets=self.compared.sets)

    def drop(self, keep: Keep = "first") -> list[str]:
        """Names of the images that repeat one that is kept; nothing is deleted.

        `keep`: one of :data:`isosphere.deploy.KEEPS`.
        """
        index = self.compared.index
        return [index.paths[row] for row in self.rows_to_drop(keep)]

    def rows_to_drop(self, keep: Keep = "first") -> list[int]:
        """The same as rows of the index, without those at the path of an image that is kept."""
        compared = self.compared
        assert compared.index.positions is not None
        repeats = rows_to_drop(self, keep, compared.source, compared.index.positions, sets=compared.sets)
        kept = set(np.delete(compared.places, repeats).tolist())
        return [row for row in repeats if int(compared.places[row]) not in kept]


_KINDS = {"jpeg": "saved as JPEG", "resize": "resized", "crop": "cropped", "all three": "all three"}
"""What was done to a copy, in words."""


def kept_names(found: Duplicates, dropped: Collection[int]) -> list[str]:
    """Names of the images that are left without some rows, and that no link stands for: the path of each where it is a
    file of its own, so that the list can be given as images, else its name; once where it is in several sets. Images
    that cannot be read are not among them.
    """
    index, source = found.compared.index, found.compared.source
    assert index.positions is not None
    names, given, places = [], set[int](), found.compared.places.tolist()
    for row, position in enumerate(index.positions.tolist()):
        if row in dropped or places[row] in given:
            continue
        given.add(places[row])
        origin = source.origin(position)
        names.append(origin.file if origin is not None and origin.is_file else index.paths[row])
    return names


def write_list(out: str | Path, names: Sequence[str]) -> None:
    """Write names to a list that can be given as images: a table (.csv) with the column path, or a name a line.

    Raises: UsageError for a name that no line can hold; RunError if it cannot be written.
    """
    target = Path(out)
    if target.suffix.lower() == ".csv":
        write_text(target, csv_text([["path"], *([name] for name in names)]))
        return
    if odd := next((name for name in names if "\n" in name or "\r" in name), None):
        raise UsageError(
            f"{odd!r} has an end of line in its name, and {target} would have one name a line. Give "
            f"{option('list', target.with_suffix('.csv'))}: a table holds every name."
        )
    write_bytes(target, b"".join(os.fsencode(f"{name}\n") for name in names))


ENOUGH = 0.8
"""Share of the made copies that a threshold should find."""
PAIRS_SHOWN = 40
ANSWERS = ("first", "second", "similarity", "same")
"""Columns of a file of answers; the similarity is for people, and not read."""


def write_pairs(out: str | Path, found: Duplicates, count: int = PAIRS_SHOWN) -> int:
    """Write the pairs nearest to the threshold, half of them above it, to be answered: a page (.html) whose answers can
    be saved, or a table (.csv) with an empty column ``same``. Returns how many there are.
    """
    target, pairs = Path(out), found.near(count)
    if target.suffix.lower() == ".csv":
        rows = ([*pair.paths, f"{pair.similarity:.6f}", ""] for pair in pairs)
        write_text(target, csv_text([ANSWERS, *rows]))
        return len(pairs)
    compared = found.compared
    shown = pictures_of(
        compared.source, [path for pair in pairs for path in pair.paths], compared.source.reading
    )
    cards = [[Card(shown[path], path) for path in pair.paths] for pair in pairs]
    summary = (
        f"The {len(pairs)} pairs nearest to the threshold, a cosine of {found.threshold:.4f}. Say of each whether both "
        "are one picture, and save the answers: isosphere dedup ... --answers answers.csv prints the precision."
    )
    made = [PairCards(a, b, pair.similarity) for (a, b), pair in zip(cards, pairs, strict=True)]
    pairs_page(target, "Is it the same picture?", made, summary=summary)
    return len(pairs)


@dataclass(frozen=True, eq=False)
class Answers:
    """Of pairs that somebody has looked at: the names of both images, and whether these are one picture."""

    file: str | Path
    pairs: Sequence[tuple[str, str]]
    same: Sequence[bool]

    def precision(self, found: Duplicates) -> Precision:
        """The share of copies among the pairs at or above a threshold, and among those below it
        (:func:`isosphere.evaluation.pair_precision`), by the cosines of the layer that was compared. Pairs that are not
        among those compared are left out.

        Raises: UsageError if none is.
        """
        index, sets = found.compared.index, found.compared.sets
        rows: dict[str, list[int]] = {}
        for row, path in enumerate(index.paths):
            rows.setdefault(path, []).append(row)
        known = []
        for names, same in zip(self.pairs, self.same, strict=True):
            a, b = (rows.get(name, []) for name in names)
            # A name that several images have tells none of them.
            if len(a) == len(b) == 1 and a != b and (sets is None or sets[a[0]] != sets[b[0]]):
                known.append((a[0], b[0], same))
        if not known:
            first, second = self.pairs[0]
            raise UsageError(
                f"{option('answers', self.file)}: got {plural(len(self.pairs), 'answer')} on other images ({first} and "
                f"{second}), expected pairs of the images that are compared. Write such a table: "
                f"{option('pairs', 'pairs.csv')}"
            )
        a, b, same = (torch.tensor(column) for column in zip(*known, strict=True))
        cosines = (index.unit[a].double() * index.unit[b].double()).sum(1)
        shares = pair_precision(same, cosines >= found.threshold - 1e-6)
        return Precision(*shares, left_out=len(self.pairs) - len(known))


def read_answers(file: str | Path) -> Answers:
    """The answers in a table that :func:`write_pairs` wrote or its page has saved; pairs without one are left out.

    Raises: UsageError for a file that is no such table, or that answers nothing.
    """
    try:
        heads, *rows = csv_rows(read_text(Path(file))) or [[]]
    except UnreadableError as error:
        raise UsageError(f"{option('answers', file)} cannot be read: {error}.") from error
    if not rows or not {"first", "second", "same"} <= set(heads):
        raise UsageError(
            f"{option('answers', file)}: expected a table with the columns {', '.join(ANSWERS)}."
        )
    pairs, same = [], []
    for number, cells in enumerate(rows, 2):
        row = dict(zip_longest(heads, cells[: len(heads)], fillvalue=""))
        said = row["same"].strip().casefold()
        if not said:
            continue
        if said not in _SAID:
            raise UsageError(
                f"{option('answers', file)}, line {number}: got '{row['same']}', expected yes or no."
            )
        pairs.append((row["first"], row["second"]))
        same.append(_SAID[said])
    if not same:
        raise UsageError(f"{option('answers', file)} has no answer: write yes or no in the column same.")
    return Answers(file, pairs, same)


_SAID = {"yes": True, "y": True, "1": True, "true": True, "no": False, "n": False, "0": False, "false": False}


def precision_in_words(found: Precision) -> str:
    """What :meth:`Answers.precision` has found."""
    said = [
        f"{each.value:.0%} [{each.low:.0%}, {each.high:.0%}] of the pairs {where} it"
        for each, where in ((found.above, "at or above"), (found.below, "below"))
        if each.value == each.value
    ]
    left = found.left_out
    others = f" {plural(left, 'answer')} left out: such pairs are not compared here." if left else ""
    return f"By your answers {' and '.join(said)} are copies.{others}"


def grouped(compared: Comparison, data: Any, reading: Any) -> Duplicates:
    """The groups of what was compared."""
    index = compared.index
    groups = near_duplicates(index.unit, compared.threshold, index.paths, sets=compared.sets)
    return Duplicates(groups, compared, data, reading)


def check_threshold(threshold: float | None) -> None:
    """Raises: UsageError for what is no cosine."""
    if threshold is not None and not -1 < threshold <= 1:
        raise UsageError(
            f"{option('threshold')}: got {threshold:g}, expected a cosine, above -1 and at most 1."
        )


def pairs_compared(sets: NDArray[np.int64] | None) -> int | None:
    """Pairs of rows of different sets; None of one set."""
    if sets is None:
        return None
    sizes = np.bincount(sets)
    return int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
