"""Search by cosine among the images of a source: embedded once, kept in the run's folder, extended as needed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from isosphere.atomic import atomic_file
from isosphere.data import (
    Fit,
    JoinedSource,
    Source,
    UnreadableImageError,
    digests,
    first_of_each,
    require_readable,
    stamps,
)
from isosphere.deploy._embed import embed_readable
from isosphere.deploy._embedder import Embedder, Progress
from isosphere.deploy._kinds import Embeddings
from isosphere.deploy._layers import Layer
from isosphere.deploy._pictures import source_of
from isosphere.deploy._texts import pack_texts, unpack_texts
from isosphere.errors import RunError
from isosphere.evaluation import centre_key
from isosphere.reading import require_regular
from isosphere.reductions import SearchEngine, find_neighbours

_UNKNOWN = bytes(16)
"""The stamp of an image of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Match:
    """An image that was found: its name, cosine to the query, class (None without labels), row of the index, how
    uncertain the run is of it, where its method says so, and whether it is the query itself, where that is known.
    """

    path: str
    similarity: float
    label: str | None
    row: int
    uncertainty: float | None = None
    itself: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = {} if self.uncertainty is None else {"uncertainty": round(self.uncertainty, 6)}
        same = {} if self.itself is None else {"itself": self.itself}
        return {
            "path": self.path,
            "similarity": round(self.similarity, 6),
            "label": self.label,
            **said,
            **same,
        }


@dataclass(frozen=True)
class Index:
    """Embeddings of images as unit rows, searched exactly.

    `unit` float32 (n, d), `paths` and `labels` per row; `added`, `reused`, `removed` count the rows that the
    last opening embedded, took over and dropped; `saved` is the file, None if it could not be written; `positions` are
    those of the rows' images in the source that was opened; `fit` says how
    much of a picture was looked at, `passes` how often, `white` which number is white.
    """

    unit: Tensor
    paths: list[str]
    labels: NDArray[np.int64]
    class_names: list[str]
    layer: Layer = "backbone"
    skipped: list[tuple[str, str]] = field(default_factory=list)
    added: int = 0
    reused: int = 0
    removed: int = 0
    saved: Path | None = None
    positions: NDArray[np.int64] | None = None
    fit: Fit = "crop"
    passes: int = 1
    white: float | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def of(cls, embeddings: Embeddings, layer: Layer = "backbone") -> "Index":
        """The index of embeddings at hand, such as those of a file that isosphere embed wrote."""
        unit = functional.normalize(torch.from_numpy(np.ascontiguousarray(embeddings.values)).float(), dim=1)
        return cls(
            unit, embeddings.paths, embeddings.labels, embeddings.class_names, layer, embeddings.skipped
        )

    def of_files(self, source: Source, sets: NDArray[np.int64] | None = None) -> "Index":
        """Without the rows of images of `source`, of which it was made, that are the same file as an earlier one: by a
        link, or because a list names it twice. With `sets` of :func:`isosphere.data.first_of_each` a file is left once
        in each set.
        """
        if self.positions is None:
            raise ValueError("positions: got None, expected an index that was opened from this source")
        rows = np.flatnonzero(np.isin(self.positions, first_of_each(source, sets)))
        if len(rows) == len(self):
            return self
        return replace(
            self,
            unit=self.unit[rows],
            paths=[self.paths[row] for row in rows],
            labels=self.labels[rows],
            positions=self.positions[rows],
        )

    @cached_property
    def _radius(self) -> float:
        """Largest norm of a row: 1, unless all are zero; not a number if one is not finite."""
        return float(self.unit.norm(dim=1).max())

    def search(self, queries: ArrayLike, k: int = 5, *, engine: SearchEngine = "auto") -> list[list[Match]]:
        """The k most similar rows to each query ``(m, d)``, by cosine, best first; of equals the earlier row.

        All rows where there are fewer than k. Exact: every row is compared, in blocks or by FAISS's flat
        index, which give the same answer; ``auto`` takes FAISS for single queries of a large index, where it
        is installed (see ``isosphere.reductions.find_neighbours``).

        Raises: ValueError for k < 1 or another dimension; UsageError for ``faiss`` where it is not installed.
        """
        if k < 1:
            raise ValueError(f"k: got {k}, expected 1 or more")
        x = torch.as_tensor(np.asarray(queries, np.float32))
        x = functional.normalize(x.reshape(1, -1) if x.ndim == 1 else x, dim=1)
        values, rows = find_neighbours(
            x, self.unit, min(k, len(self)), engine=engine, largest_norm=self._radius
        )
        return [
            [self._match(r, v) for v, r in zip(vs, rs, strict=True)]
            for vs, rs in zip(values.tolist(), rows.tolist(), strict=True)
        ]

    def label_of(self, row: int) -> str | None:
        """The class of a row; None without a label."""
        label = int(self.labels[row])
        return self.class_names[label] if 0 <= label < len(self.class_names) else None

    def _match(self, row: int, similarity: float) -> Match:
        # Rounding may take a cosine past 1 by a few units in the last place.
        return Match(self.paths[row], max(-1.0, min(1.0, similarity)), self.label_of(row), row)


def open_index(
    run: Embedder,
    data: Any,
    *,
    layer: Layer | str | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Index:
    """The images of `data` made searchable.

    The embeddings are kept in the run's folder, under ``search/``, unless the run has no cache. On later calls only
    images are embedded that are new or have changed (:func:`isosphere.data.stamps`), and those that are gone are
    dropped; other weights in the run's folder start afresh. Of several sources each has its own, so that a set that is
    added leaves the rows of the others as they are. Pictures at hand have no name to be kept under, and are embedded
    every time.

    Raises: RunError if no image can be read.
    """
    layer, source = run.check_layer(layer), source_of(data)
    run, _ = run.settled(source)
    made = _opened(run, source, layer, workers, progress)
    require_readable(source, len(made), made.skipped, strict=False)
    return made


def unindexed(run: Embedder, data: Any, *, layer: Layer | str | None = None) -> NDArray[np.int64]:
    """Positions of the images of `data` that :func:`open_index` would embed: int64 ``(m,)``, ascending."""
    layer, source = run.check_layer(layer), source_of(data)
    run, _ = run.settled(source)
    if _in_parts(source):
        starts = np.cumsum([0, *map(len, source.parts)])
        parts = zip(source.parts, starts, strict=False)
        return np.concatenate([unindexed(run, part, layer=layer) + start for part, start in parts])
    if run.cache is None or not source.location:
        return np.arange(len(source))
    old = _read(_index_file(run, source, layer), _identity_of(run))
    known = set() if old is None else {key for key in _keys(old.paths, old.stamps) if key[1] != _UNKNOWN}
    return np.flatnonzero([key not in known for key in _keys(source.paths, stamps(source))])


def unseen(run: Embedder, source: Source, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of these images, by their positions, have to pass through the network: of the others features are kept."""
    cache = run.cache
    if cache is None:
        return positions
    found = [np.empty(0, np.int64)]
    for alike, chosen in _by_shape(run, source, positions.tolist()):
        key = centre_key(alike.weights, alike.key, device=alike.device)
        missing = cache.missing(key, torch.from_numpy(digests(source.subset(chosen))))
        found.append(np.asarray(chosen, np.int64)[missing.numpy()])
    return np.sort(np.concatenate(found))


def _opened(run: Embedder, source: Source, layer: Layer, workers: int, progress: Progress | None) -> Index:
    """The index of a source by a run that is settled for it; it may be empty."""
    if _in_parts(source):
        parts = [_opened(run, part, layer, workers, progress) for part in source.parts]
        return _joined(source, parts, layer)
    keeps = run.cache is not None and bool(source.location)
    marks = stamps(source) if keeps else np.zeros((len(source), 2), np.int64)
    file, identity = _index_file(run, source, layer), _identity_of(run)
    old = _read(file, identity) if keeps else None
    before = [] if old is None else list(_keys(old.paths, old.stamps))
    now, known = list(_keys(source.paths, marks)), {key: row for row, key in enumerate(before)}
    rows = [known.get(key, -1) if key[1] != _UNKNOWN else -1 for key in now]
    todo = [i for i, row in enumerate(rows) if row < 0]
    reasons: dict[int, str] = {}  # by position, since two images may be shown by one name
    blocks: list[NDArray[np.float32]] = []
    positions: list[int] = []
    if old is not None:
        kept = [i for i, row in enumerate(rows) if row >= 0 and old.readable[row]]
        reasons |= {i: old.reasons[row] for i, row in enumerate(rows) if row >= 0 and not old.readable[row]}
        blocks.append(old.values[old.place[[rows[i] for i in kept]]])
        positions += kept
    added = 0
    for alike, chosen in _by_shape(run, source, todo):
        part = source.subset(chosen)
        fresh, places = embed_readable(alike, part, layer=layer, workers=workers, progress=progress)
        blocks.append(fresh.values)
        positions += [chosen[k] for k in places]
        lost = np.setdiff1d(np.arange(len(chosen)), places)
        reasons |= {chosen[k]: reason for k, (_, reason) in zip(lost, fresh.skipped, strict=False)}
        added += len(places)
    skipped = [(source.paths[i], reasons[i]) for i in sorted(reasons)]
    skipped += [item for item in source.unreadable if item not in skipped]
    order = np.argsort(np.asarray(positions, np.int64), kind="stable")
    own = np.asarray(positions, np.int64)[order]
    values = _rows([block for block in blocks if len(block)])[order]
    whole = Embeddings(
        values, source.labels[own], [source.paths[i] for i in own], source.class_names, skipped
    )
    saved: Path | None = None
    if keeps:
        same = old is not None and before == now and not todo
        saved = file if same else _write(file, identity, source.paths, marks, values, own, reasons)
    gone = (Counter(before) - Counter(now)).total()
    made = Index.of(whole, layer)
    return replace(
        made,
        positions=own,
        added=added,
        reused=len(whole) - added if keeps else 0,
        removed=gone,
        saved=saved,
        fit=run.reading.fit,
        passes=run.passes,
        white=run.reading.white,
    )


def _in_parts(source: Source) -> TypeGuard[JoinedSource]:
    """Whether it is several sources that each have a place to be kept under."""
    return isinstance(source, JoinedSource) and all(part.location for part in source.parts)


def _joined(source: JoinedSource, parts: list[Index], layer: Layer) -> Index:
    """The indexes of the parts of a source as one."""
    starts = np.cumsum([0, *map(len, source.parts)])
    places = [index.positions + start for index, start in zip(parts, starts, strict=False)]  # type: ignore[operator]
    own = np.concatenate(places)
    rows = [index.unit for index in parts if len(index)]
    first, saved = parts[0], [index.saved for index in parts]
    return replace(
        first,
        unit=torch.cat(rows) if rows else first.unit,
        paths=[source.paths[i] for i in own],
        labels=source.labels[own],
        class_names=source.class_names,
        layer=layer,
        skipped=[
            (f"{name}/{path}", reason)
            for name, index in zip(source.names, parts, strict=True)
            for path, reason in index.skipped
        ],
        added=sum(index.added for index in parts),
        reused=sum(index.reused for index in parts),
        removed=sum(index.removed for index in parts),
        saved=None if None in saved else saved[-1],
        positions=own,
    )


def _identity_of(run: Embedder) -> str:
    """What the rows of an index depend on beside layer and images."""
    return f"{run.identity}, pixels {json.dumps(run.key)}"


def _rows(blocks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)


def _by_shape(run: Embedder, source: Source, todo: list[int]) -> list[tuple[Embedder, list[int]]]:
    """Who embeds which images: square ones are mostly the same by any fit, and an evaluation may have left their
    features."""
    keeps = run.cache is not None and run.reading.fit != "crop" and run.reading.one_square
    squares = {i for i in todo if keeps and _is_square(source, i)}
    parts = [(run.fitted("crop"), [i for i in todo if i in squares])]
    parts.append((run, [i for i in todo if i not in squares]))
    return [(alike, chosen) for alike, chosen in parts if chosen]


def _is_square(source: Source, i: int) -> bool:
    try:
        width, height = source.dimensions(i)
    except UnreadableImageError:
        return False
    return width == height


@dataclass(frozen=True)
class _Stored:
    """What a file of an index holds; rows without a value are images that could not be read."""

    values: NDArray[np.float32]
    paths: list[str]
    stamps: NDArray[np.int64]
    place: NDArray[np.int64]
    reasons: list[str]

    @property
    def readable(self) -> NDArray[np.bool_]:
        return self.place >= 0

    @property
    def sound(self) -> bool:
        """Whether its arrays belong together, as those of a file that is damaged or somebody else's may not."""
        n, places = len(self.paths), self.place[self.place >= 0]
        return bool(
            (self.values.ndim == 2 and self.values.dtype == np.float32)
            and (self.stamps.shape == (n, 2) and self.stamps.dtype == np.int64)
            and (self.place.shape == (n,) and self.place.dtype.kind == "i" and len(self.reasons) == n)
            and (len(places) == 0 or int(places.max()) < len(self.values))
            and np.isfinite(self.values).all()
        )


def _index_file(run: Embedder, source: Source, layer: Layer) -> Path:
    passes = f"\n{run.passes} passes" if run.passes > 1 else ""
    facts = f"{source.location}\n{layer}\n{run.canvas}\n{run.reading.fit}{passes}".encode(
        "utf-8", "surrogateescape"
    )
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in source.name)[:40]
    digest = hashlib.blake2b(facts, digest_size=8).hexdigest()
    return run.folder.path / "search" / f"{name}-{layer}-{digest}.npz"


def _keys(paths: list[str], stamps: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
    """What an image is known by: its name, and what changes when the image does."""
    return zip(paths, (row.tobytes() for row in stamps), strict=True)


def _read(file: Path, identity: str) -> _Stored | None:
    """The stored index, or None if there is none that can be used: it can always be made again."""
    try:
        require_regular(file)
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if str(arrays["identity"]) != identity:
                return None
            found = _Stored(
                arrays["embeddings"],
                unpack_texts(arrays["paths"], arrays["path_ends"]),
                arrays["stamps"],
                arrays["place"],
                unpack_texts(arrays["reasons"], arrays["reason_ends"]),
            )
            return found if found.sound else None
    except Exception:  # absent, cut short, of an older kind: numpy and zipfile raise nearly anything
        return None


def _write(
    file: Path,
    identity: str,
    paths: list[str],
    stamps: NDArray[np.int64],
    values: NDArray[np.float32],
    positions: NDArray[np.int64],
    reasons: dict[int, str],
) -> Path | None:
    """Keep the index; a run's folder that cannot be written to costs time, not the search."""
    place = np.full(len(paths), -1, np.int64)
    place[positions] = np.arange(len(positions))
    arrays = {"identity": np.asarray(identity), "embeddings": values, "stamps": stamps, "place": place}
    arrays["paths"], arrays["path_ends"] = pack_texts(paths)
    arrays["reasons"], arrays["reason_ends"] = pack_texts([reasons.get(i, "") for i in range(len(paths))])
    try:
        file.parent.mkdir(exist_ok=True)
        with atomic_file(file) as handle:
            np.savez(handle, **arrays)
    except (RunError, OSError):
        return None
    return file
