"""The images that belong to a run, as the last update left them: what search, explore and dedup look at where no images
are named.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere.atomic import write_bytes
from isosphere.data import WHOLE, Source, join_sources, open_source, require_there, stamps
from isosphere.deploy import Embedder, Layer, pack_texts, unpack_texts
from isosphere.errors import RunError, UsageError, command, option, plural
from isosphere.runs import RunFolder, pack_tensors, read_tensors

FORMAT = "isosphere-collection-1"

R = TypeVar("R", bound=Embedder)


@dataclass(frozen=True, eq=False)
class Listed:
    """Images of several sources: of each its part, its name there, and what changes when it does."""

    part: NDArray[np.int64]
    paths: list[str]
    stamps: NDArray[np.int64]

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "Listed":
        """The images of these sources, one after another."""
        return cls(
            np.repeat(np.arange(len(sources)), [len(source) for source in sources]),
            [path for source in sources for path in source.paths],
            np.concatenate([np.empty((0, 2), np.int64), *map(stamps, sources)]),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, chosen: NDArray[np.bool_]) -> "Listed":
        """Those that are chosen, ``(n,)``."""
        paths = [path for path, there in zip(self.paths, chosen, strict=True) if there]
        return Listed(self.part[chosen], paths, self.stamps[chosen])

    def and_then(self, others: "Listed") -> "Listed":
        """These, and others after them."""
        stamps = np.concatenate([self.stamps, others.stamps])
        return Listed(np.concatenate([self.part, others.part]), [*self.paths, *others.paths], stamps)

    def keys(self) -> list[tuple[int, str, int]]:
        """Part and name of each, and which of those of one name it is: a tar may hold a name twice."""
        seen = Counter[tuple[int, str]]()
        found = []
        for each in zip(self.part.tolist(), self.paths, strict=True):
            found.append((*each, seen[each]))
            seen[each] += 1
        return found


@dataclass(frozen=True, eq=False)
class Collection:
    """What is recorded of the images of a run.

    `parts`: the sources, by their places. `listed`: their images; `removed`, ``(n,)``, marks those that are no longer
    there. `network`, `pixels`, `white`: what the vectors depend on (:attr:`isosphere.deploy.Embedder.identity`, its
    ``key`` for whole pictures, the number that is white). `thresholds`: by layer the cosine from which two images are
    copies, as it was chosen on the first images; `copies`: the layer that finds them best. `updates`: what each has
    found, the last one last.
    """

    parts: tuple[str, ...]
    listed: Listed
    removed: NDArray[np.bool_]
    network: str
    pixels: str
    white: float | None = None
    thresholds: Mapping[Layer, float] = field(default_factory=dict)
    copies: Layer | None = None
    updates: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return int((~self.removed).sum())

    @classmethod
    def read(cls, folder: RunFolder) -> "Collection | None":
        """That of a run; None where none is recorded. Raises: RunError if the file is damaged."""
        file = folder.collection
        if not file.exists():
            return None
        tensors, about = read_tensors(file)
        try:
            said = json.loads(about[FORMAT])
            arrays = {name: x.numpy() for name, x in tensors.items()}
            listed = Listed(
                arrays["part"], unpack_texts(arrays["paths"], arrays["path_ends"]), arrays["stamps"]
            )
            return cls(tuple(said.pop("parts")), listed, arrays["removed"], **said)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RunError(
                f"{file} is no record of a collection that this version knows: move it away, and update again."
            ) from error

    def write(self, folder: RunFolder) -> None:
        """Record it, in one step."""
        names = ("parts", "network", "pixels", "white", "thresholds", "copies", "updates")
        paths, ends = pack_texts(self.listed.paths)
        arrays = {
            **{"part": self.listed.part, "stamps": self.listed.stamps, "removed": self.removed},
            **{"paths": paths.copy(), "path_ends": ends},
        }
        about = {FORMAT: json.dumps({name: getattr(self, name) for name in names})}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in arrays.items()}
        write_bytes(folder.collection, pack_tensors(tensors, about))

    def sources(self) -> list[Source]:
        """The parts, opened. Raises: UsageError for one that is not where it was."""
        return open_parts(self.parts, np.bincount(self.listed.part[~self.removed], minlength=len(self.parts)))

    def frozen(self, run: R) -> R:
        """The run, with what was settled when the collection began. Raises: UsageError if it has another network,
        metric or reading by now.
        """
        run = replace(run, reading=replace(run.reading, white=self.white))
        if (run.identity, pixels_key(run)) == (self.network, self.pixels):
            return run
        raise UsageError(
            f"the collection of {run.folder.path} ({plural(len(self), 'image')}) was embedded by another network, "
            "metric or reading than the run has now, and such vectors cannot be compared. Nothing was changed. To "
            "embed all of it by the present one, and choose its threshold anew: "
            + command("update", run.folder.path, restart=True)
        )


def pixels_key(run: Embedder) -> str:
    """What vectors of whole pictures depend on beside the network."""
    return json.dumps(run.fitted(WHOLE).key)


def open_parts(places: Sequence[str], counts: Sequence[int] | NDArray[np.int64]) -> list[Source]:
    """The sources at these places. Raises: UsageError, with how many images were there, where one is gone."""
    found = []
    for place, count in zip(places, counts, strict=True):
        try:
            found.append(open_source(place))
        except UsageError as error:
            raise UsageError(
                f"{place}, where {plural(int(count), 'image')} of the collection were, cannot be opened ({error}) "
                f"Bring it back, or say by {option('old', 'DATA')} where the images so far are now."
            ) from error
    return found


def together(sources: Sequence[Source]) -> Source:
    """Several sources as one."""
    return sources[0] if len(sources) == 1 else join_sources(sources)


def collection_of(run: R) -> tuple[R, Source, Collection | None]:
    """The images that belong to a run, where none are named: those of its collection, else those of its training; and
    the run as it is to be used on them.

    Raises: UsageError if they are not to be had.
    """
    if (kept := Collection.read(run.folder)) is not None:
        return kept.frozen(run), together(kept.sources()), kept
    place = training_images(run)
    if place is None:
        raise UsageError(
            f"no images were named, and those that {run.folder.path} was made from are not where they were: name some."
        )
    return run, open_source(place), None


def recorded_threshold(
    run: Embedder, threshold: float | None, layer: Layer | None
) -> tuple[float | None, Layer | None]:
    """The threshold for copies of a run's collection with its layer, unless one is given; None where there is none."""
    kept = Collection.read(run.folder)
    if kept is None or threshold is not None:
        return threshold, layer
    chosen = layer or kept.copies
    found = None if chosen is None else kept.thresholds.get(chosen)
    return (None, layer) if found is None else (found, chosen)


def training_images(run: Embedder) -> str | None:
    """The name of the images that a run was made from; None where they are no longer there, or nobody knows."""
    known = run.folder.read_images()
    config = run.folder.read_config() if run.folder.config.is_file() else {}
    for name in (known.get("location"), known.get("source"), config.get("data", {}).get("source")):
        try:
            if name:
                require_there(name)
                return str(name)
        except UsageError:
            continue
    return None
