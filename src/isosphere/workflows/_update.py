"""New images for a run: compared with those so far, and appended to its collection."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere.atomic import locked
from isosphere.data import (
    WHOLE,
    Source,
    UnreadableImageError,
    located,
    open_source,
    parts_of,
    require_there,
    visible,
)
from isosphere.deploy import Index, embed_readable, unindexed, unseen
from isosphere.discrepancies import TwoSample, two_sample_mmd
from isosphere.errors import RunError, UsageError, command, plural
from isosphere.evaluation import Estimate, wilson
from isosphere.reductions import nearest_neighbours
from isosphere.report import Card, Group, gallery_page, thumbnail
from isosphere.training import duration
from isosphere.workflows._collection import (
    Collection,
    Listed,
    open_parts,
    pixels_key,
    together,
    training_images,
)
from isosphere.workflows._copies import COPIES, CopySample, sample_copies
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._lists import outlier_neighbours
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._run import Run, load
from isosphere.workflows._shown import SIDE
from isosphere.workflows._train import console_for

COMPARED = 1000
"""Images of either kind that the test compares, drawn from more."""
PERMUTATIONS = 999
_REFERENCE = 2000
"""Images so far whose own distances are looked at."""
_USUAL = 0.95
"""Share of the images so far that are nearer to the others than what is called far."""
_SHOWN = 10
_WARM, _TIMED = 2, 8


@dataclass(frozen=True, slots=True)
class Foreign:
    """A new image by how far it lies from the images so far: `distance` to the 10th nearest of these, `beyond` which
    share of them lies nearer to the others than that, the nearest with its cosine.
    """

    path: str
    distance: float
    beyond: float
    nearest: str
    similarity: float


@dataclass(frozen=True, eq=False)
class Update:
    """What an update has found: names of the images that are `new`, have `changed`, or are `removed`; how many are
    `kept` as they were; the `test` of the new ones against the others, and the share of new ones that is `far`, None
    where there are too few; the new ones, the most `foreign` first; `copies` of images so far among the new ones, with
    cosines; the index of all; `skipped` with reasons.
    """

    new: list[str]
    changed: list[str]
    removed: list[str]
    kept: int
    index: Index
    source: Source
    collection: Collection
    test: TwoSample | None = None
    far: Estimate | None = None
    foreign: list[Foreign] = field(default_factory=list)
    copies: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Images that could not be read, with reasons."""
        return self.index.skipped

    @property
    def verdict(self) -> dict[str, str]:
        """What the comparison says, in words."""
        said: dict[str, str] = {}
        if self.test is not None:
            differ = self.test.p_value <= 0.05
            said["compared"] = (
                f"{self.test.counts[0]:,} new images with {self.test.counts[1]:,} so far: MMD^2 {self.test.value:.4f}, "
                f"p = {self.test.p_value:.3g} by {self.test.permutations} permutations: "
                + (
                    "they are not drawn from what the others are"
                    if differ
                    else "no difference can be told at this number of images"
                )
            )
        if self.far is not None:
            said["far"] = (
                f"{self.far.value:.1%} [{self.far.low:.1%}, {self.far.high:.1%}] of the new images lie farther from "
                f"those so far than {_USUAL:.0%} of these do; {1 - _USUAL:.0%} would if nothing had changed"
            )
        if self.copies:
            found = plural(len(self.copies), "new image")
            said["copies"] = (
                f"{found} {'is a copy' if len(self.copies) == 1 else 'are copies'} of those so far"
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        test = self.test
        return {
            "images": len(self.index),
            "kept": self.kept,
            **{name: getattr(self, name) for name in ("new", "changed", "removed")},
            "mmd": None
            if test is None
            else {
                **{"square": test.value, "p_value": test.p_value, "permutations": test.permutations},
                "compared": list(test.counts),
            },
            "far": None if self.far is None else self.far.as_dict(),
            "foreign": [
                {
                    **{"path": each.path, "distance": each.distance, "beyond": each.beyond},
                    **{"nearest": each.nearest, "similarity": each.similarity},
                }
                for each in self.foreign[:_SHOWN]
            ],
            "copies": [{"path": a, "of": b, "similarity": cosine} for a, b, cosine in self.copies],
            "threshold": dict(self.collection.thresholds),
            "layer": self.index.layer,
            "left_out": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }

    def page(self, out: str | Path) -> None:
        """Write a page (.html) of the most foreign new images, each beside the nearest of those so far."""
        shown = self.foreign[:_SHOWN]
        place = {path: i for i, path in enumerate(self.source.paths)}

        def picture(path: str) -> str:
            try:
                return thumbnail(visible(self.source.image(place[path], at_least=SIDE)), SIDE)
            except UnreadableImageError:
                return ""

        groups = [
            Group(
                "",
                [
                    Card(picture(each.path), each.path, f"farther than {each.beyond:.1%}", marked=True),
                    Card(picture(each.nearest), each.nearest, f"nearest, cosine {each.similarity:.3f}"),
                ],
            )
            for each in shown
        ]
        gallery_page(out, "The most foreign new images", groups, summary=". ".join(self.verdict.values()))


@dataclass
class Updating:
    """An update that is prepared: :meth:`estimate` says how long it will take, :meth:`embed` passes what is new through
    the network, :meth:`finish` compares and records.
    """

    run: Run
    before: Collection
    began: bool
    """Whether nothing was recorded before."""
    sources: list[Source]
    now: Listed
    todo: NDArray[np.int64]
    """Positions of the images that have no vector."""
    remarks: list[str] = field(default_factory=list)
    _recorded: str = ""

    def __post_init__(self) -> None:
        self.source, self.places = together(self.sources), [each.location for each in self.sources]
        recorded = self.before.listed
        rows = {
            key: row
            for row, (key, gone) in enumerate(zip(recorded.keys(), self.before.removed, strict=True))
            if not gone
        }
        row = np.array([rows.get(key, -1) for key in self.now.keys()], np.int64)  # noqa: SIM118
        self.known = row >= 0
        """Whether each image was there before, by its name."""
        self.same = self.known.copy()
        """Whether it is as it was."""
        self.same[self.known] = (recorded.stamps[row[self.known]] == self.now.stamps[self.known]).all(1)
        names = set(self.now.keys())
        self.gone = np.array([key not in names for key in recorded.keys()], bool)  # noqa: SIM118
        """Which rows of the record are of images that are not there."""
        self._left = unseen(self.run.fitted(WHOLE), self.source, self.todo)
        self._passing = len(self._left)

    @property
    def new(self) -> list[str]:
        """Names of the images that were not there before."""
        return [self.source.paths[i] for i in np.flatnonzero(~self.known)]

    @property
    def changed(self) -> list[str]:
        """Names of the images that are other ones than before."""
        return [self.source.paths[i] for i in np.flatnonzero(self.known & ~self.same)]

    @property
    def removed(self) -> list[str]:
        """Names, within their parts, of the images that are no longer there."""
        return self.before.listed.where(self.gone & ~self.before.removed).paths

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to do."""
        added = tuple(self.places) != self.before.parts
        return not (added or self.began or self.new or self.changed or self.removed or len(self.todo))

    @property
    def facts(self) -> dict[str, str]:
        """What is worth knowing before it starts, in plain words."""
        counts = {"new": self.new, "changed": self.changed, "no longer there": self.removed}
        some = [f"{len(names):,} {word}" for word, names in counts.items() if names]
        found = {
            "images": f"{int(self.same.sum()):,} as before" + "".join(f", {words}" for words in some),
            "of": " + ".join(self.places),
            "layer": f"{self.run.search_layer}; network, metric, threshold and old vectors stay as they are",
        }
        if self.todo.size:
            kept = len(self.todo) - self._passing
            found["to embed"] = plural(self._passing, "image") + (
                f"; of {kept:,} more features are kept" if kept else ""
            )
        if not self.before.thresholds and len(self.same) > 1:
            found["threshold"] = (
                f"chosen once, on copies of {min(COPIES, int(self.same.sum())):,} of the images so far"
            )
        return found

    @property
    def index(self) -> Index:
        """The images as they are searched, whose vectors are made where they are not there."""
        return self.run.index(self.source, layer=self.run.search_layer)

    def estimate(self) -> str:
        """How long it will take, in words, by a few of the images, whose features are kept; empty where no image has to
        pass through the network.
        """
        copies = 0 if self.before.thresholds else min(COPIES, int(self.same.sum()))
        if not (len(self._left) or copies):
            return ""
        self._pass(_WARM)
        begun = time.perf_counter()
        timed = self._pass(_TIMED)
        seconds = (time.perf_counter() - begun) / timed
        if not (left := len(self._left) + copies):
            return ""
        return f"about {duration(seconds * left)} for {plural(left, 'image')} on {self.run.device.type}"

    def embed(self, progress: Callback | None = None) -> None:
        """Make the vectors that are not there yet, by every layer; what is there is kept block by block."""
        if self.began:  # which images are new is to be known after an interruption too
            self._record(self.before)
        for layer in dict.fromkeys((self.run.search_layer, *self.run.layers)):
            self.run.index(self.source, layer=layer, progress=progress)

    def finish(self, progress: Callback | None = None) -> Update:
        """Compare the new images with those so far, and record all.

        Raises: RunError if another update has been recorded meanwhile.
        """
        before = self.before if self.before.thresholds else self._with_thresholds(progress)
        index = self.index
        assert index.positions is not None
        old = self.same[index.positions]
        found = compared(index, np.flatnonzero(~old), np.flatnonzero(old))
        copies = self._copies(before)
        listed = self.now.and_then(before.listed.where(self.gone))
        removed = np.repeat([False, True], [len(self.now), len(listed) - len(self.now)])
        entry = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **{"new": len(self.new), "changed": len(self.changed), "removed": self.removed},
            "kept": int(self.same.sum()),
            "mmd": None if found[0] is None else [found[0].value, found[0].p_value],
        }
        after = replace(
            before,
            parts=tuple(self.places),
            listed=listed,
            removed=removed,
            updates=(*before.updates, entry),
        )
        made = Update(
            self.new,
            self.changed,
            self.removed,
            int(self.same.sum()),
            index,
            self.source.read_as(self.run.reading),
            after,
            *found,
            copies=copies,
        )
        self._record(after)
        return made

    def closing(self, made: Update) -> list[tuple[str, bool]]:
        """Sentences on what was done, each with whether it is a warning."""
        said = [(remark, True) for remark in self.remarks]
        lost, there = len(made.removed), len(self.before)
        if lost > max(10, there // 2):
            said.append((f"{lost:,} of {there:,} images are no longer there: is a disk missing?", True))
        if (self.run.folder.path / "probe.safetensors").exists():
            said.append(("The classifier is as it was.", False))
        return said

    def _pass(self, count: int) -> int:
        """Pass some images through the network, and keep their features; where there are none left, others for the time
        that it takes.
        """
        some, whole = self._left[:count], self.run.fitted(WHOLE)
        if not len(some):
            some, whole = np.arange(min(count, len(self.source))), replace(whole, cache=None)
        embed_readable(whole, self.source.subset(some), layer=self.run.search_layer)
        self._left = self._left[count:]
        return len(some)

    def _with_thresholds(self, progress: Callback | None) -> Collection:
        """The record with the thresholds for copies, chosen on the images so far."""
        old = self.source.subset(np.flatnonzero(self.same))
        if len(old) < 2:
            return self.before
        sample = sample_copies(self.run, old, progress=progress)
        thresholds = {
            layer: chosen_threshold(sample, self.run.index(self.source, layer=layer), self.same)
            for layer in dict.fromkeys((self.run.search_layer, sample.best))
        }
        return replace(self.before, thresholds=thresholds, copies=sample.best)

    def _copies(self, before: Collection) -> list[tuple[str, str, float]]:
        """New images that are copies of images so far, each with the most similar of these."""
        if before.copies is None:
            return []
        index = self.run.index(self.source, layer=before.copies)
        assert index.positions is not None
        old = self.same[index.positions]
        new, so_far = np.flatnonzero(~old), np.flatnonzero(old)
        if not (len(new) and len(so_far)):
            return []
        cosines, near = nearest_neighbours(index.unit[new], index.unit[so_far], 1)
        pairs = zip(new, so_far[near[:, 0].numpy()], cosines[:, 0].clamp(-1, 1).tolist(), strict=True)
        limit = before.thresholds[before.copies] - 1e-6
        return [(index.paths[a], index.paths[b], cosine) for a, b, cosine in pairs if cosine >= limit]

    def _record(self, after: Collection) -> None:
        folder = self.run.folder
        lock = folder.path / f".{folder.collection.name}.lock"
        being = f"the collection of {folder.path} is being recorded", "wait for its end"
        with locked(lock, *being, within=folder.collection, patience=10.0):
            if _state(folder.collection) != self._recorded:
                raise RunError(
                    f"another update of {folder.path} has been recorded meanwhile: type the same again; what was "
                    "embedded is kept."
                )
            after.write(folder)
            self._recorded = _state(folder.collection)


def compared(
    index: Index, new: NDArray[np.int64], old: NDArray[np.int64]
) -> tuple[TwoSample | None, Estimate | None, list[Foreign]]:
    """Rows of an index against others: the two-sample test, the share that lies far, and all of them, the most foreign
    first.
    """
    if len(new) < 1 or len(old) < 3:
        return None, None, []
    x, others = index.unit[new], index.unit[old]
    k = outlier_neighbours(len(old))
    cosines, near = nearest_neighbours(x, others, k)
    distances = (2 - 2 * cosines[:, -1]).clamp(min=0).sqrt()
    drawn = torch.from_numpy(np.random.default_rng(0).permutation(len(old))[:_REFERENCE].copy())
    own, _ = nearest_neighbours(others[drawn], others, k, exclude=drawn)
    usual = (2 - 2 * own[:, -1]).clamp(min=0).sqrt().sort().values
    beyond = torch.searchsorted(usual, distances).double() / len(usual)
    far = wilson(int((distances > usual.quantile(_USUAL)).sum()), len(x))
    order = distances.argsort(descending=True, stable=True).tolist()
    foreign = [
        Foreign(
            index.paths[new[i]],
            float(distances[i]),
            float(beyond[i]),
            index.paths[old[int(near[i, 0])]],
            float(cosines[i, 0].clamp(-1, 1)),
        )
        for i in order
    ]
    test = (
        two_sample_mmd(x, others, permutations=PERMUTATIONS, most=COMPARED)
        if min(len(x), len(others)) >= 2
        else None
    )
    return test, far, foreign


def chosen_threshold(sample: CopySample, index: Index, chosen: NDArray[np.bool_]) -> float:
    """The threshold for copies among those images of an index whose positions are chosen."""
    assert index.positions is not None
    rows = torch.from_numpy(np.flatnonzero(chosen[index.positions]))
    return sample.choose(replace(index, unit=index.unit[rows])).threshold


@keywords_checked
def update(
    run: Run | str | Path,
    new: Any = None,
    *,
    old: str | Path | None = None,
    restart: bool = False,
    progress: bool | Callback = True,
) -> Update:
    """Compare new images with those of a run's collection, and append them: ``isosphere.update("runs/a", "NEW")``.

    Network, metric, threshold, classifier and the vectors of images that are as they were stay the same, to the bit.
    What is new or has changed is embedded, what is gone is marked. Afterwards ``search``, ``dedup`` and ``explore`` of
    the command line look at all of them where no images are named.

    Args:
        run: a run, or its folder.
        new: images by name: a further source, or one of those so far, in which some have come; None: all are looked
            through again.
        old: the images so far, where the run does not know them or they have moved; None: those that were recorded,
            else those of the training.
        restart: forget what was recorded of network, metric and threshold.

    After an interruption the same call goes on.

    Raises: UsageError for images that are not there, or a collection of another network; RunError if nothing can be
        read or written.
    """
    made = prepare_update(run, new, old=old, restart=restart)
    console = console_for(progress is True)
    if progress is True:
        for words in (*made.facts.values(), made.estimate()):
            if words:
                console.print(words, markup=False, soft_wrap=True)
    with progress_bar("Embedding", progress) as bar:
        made.embed(bar)
        found = made.finish(bar)
    for words, _ in made.closing(found):
        console.print(words, markup=False, soft_wrap=True)
    return found


def prepare_update(
    run: Run | str | Path,
    new: Any = None,
    *,
    old: str | Path | None = None,
    restart: bool = False,
) -> Updating:
    """Check what was asked for, and find which images are new; nothing is written. Arguments as of :func:`update`."""
    run = run if isinstance(run, Run) else load(run)
    if run.cache is None or run.role != "student" or run.passes != 1 or run.epoch is not None:
        raise UsageError(
            "an update keeps vectors of the run's last weights, in one pass: open the run by "
            f"{command('load', run.folder.path)} alone."
        )
    for part in () if new is None else parts_of(str(new)):
        require_there(part)  # by the name that was typed
    recorded, kept = _state(run.folder.collection), Collection.read(run.folder)
    places = [] if new is None else [located(part) for part in parts_of(str(new))]
    if kept is None or old is not None or restart:
        before, run, remarks = _begun(run, None if restart else kept, _so_far(run, kept, old), places)
    else:
        before, run, remarks = kept, kept.frozen(run), list[str]()
    sources = before.sources()
    for place in places:
        sources += _added([each.location for each in sources], place)
    run.settled(together(sources))  # new ones on another scale are refused
    todo = unindexed(run.fitted(WHOLE), together(sources), layer=run.search_layer)
    return Updating(run, before, before is not kept, sources, Listed.of(sources), todo, remarks, recorded)


def _so_far(run: Run, kept: Collection | None, old: str | Path | None) -> list[str]:
    """The places of the images so far. Raises: UsageError where nobody knows them."""
    if old is None and kept is not None:
        return list(kept.parts)
    name = training_images(run) if old is None else str(old)
    if name is None:
        raise UsageError(
            f"{run.folder.path} does not know where the images so far are: name them, "
            f"{command('update', run.folder.path, 'NEW', old='DATA')}"
        )
    return [located(part) for part in parts_of(name)]


def _begun(
    run: Run, kept: Collection | None, parts: list[str], new: Sequence[str]
) -> tuple[Collection, Run, list[str]]:
    """A record of the images so far: those that an index of them has, else all that are there. What was settled stays
    so.
    """
    sources = open_parts(parts, [0] * len(parts))
    run = run.settled(together(sources))[0] if kept is None else kept.frozen(run)
    listed, remarks = Listed.of(sources), list[str]()
    there = np.ones(len(listed), bool)
    for i, place in enumerate(parts):  # of what has grown nobody else can say which images came later
        if not any(each == place or _lies_in(each, place) for each in new):
            continue
        mine = np.flatnonzero(listed.part == i)
        missing = unindexed(run.fitted(WHOLE), sources[i], layer=run.search_layer)
        if len(missing) < len(mine):
            there[mine[missing]] = False
        else:
            remarks.append(
                f"Which images of {place} are new cannot be told, for nothing was recorded of them before: all "
                f"{len(mine):,} count as those so far. From now on it can."
            )
    made = Collection(
        tuple(parts),
        listed.where(there),
        np.zeros(int(there.sum()), bool),
        run.identity,
        pixels_key(run),
        run.reading.white,
    )
    if kept is not None:
        made = replace(made, thresholds=kept.thresholds, copies=kept.copies, updates=kept.updates)
    return made, run, remarks


def _added(places: Iterable[str], place: str) -> list[Source]:
    """The source at a place, unless it is one of these or lies in one. Raises: UsageError if it holds one."""
    for each in places:
        if place == each or _lies_in(place, each):
            return []
        if _lies_in(each, place):
            raise UsageError(
                f"{place} holds {each}, which belongs to the collection already: name what is beside it."
            )
    return [open_source(place)]


def _lies_in(place: str, folder: str) -> bool:
    return place != folder and Path(folder).is_dir() and Path(place).is_relative_to(folder)


def _state(file: Path) -> str:
    """What tells one record from the next."""
    try:
        found = file.stat()
    except OSError:
        return ""
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"
