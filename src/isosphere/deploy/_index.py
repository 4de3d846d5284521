"""Search by cosine among the images of a source: embedded once, kept in the run's folder, extended as needed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from isosphere.atomic import atomic_file
from isosphere.data import PIXELS, Source, first_of_each, require_readable, stamps
from isosphere.deploy._embed import embed_readable, embed_source, join
from isosphere.deploy._embedder import Embedder, Progress
from isosphere.deploy._kinds import Embeddings
from isosphere.deploy._layers import Layer
from isosphere.deploy._pictures import source_of
from isosphere.deploy._texts import pack_texts, unpack_texts
from isosphere.errors import RunError
from isosphere.reductions import SearchEngine, find_neighbours

_UNKNOWN = bytes(16)
"""The stamp of an image of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Match:
    """An image that was found: its name, cosine to the query, class (None without labels), row of the index."""

    path: str
    similarity: float
    label: str | None
    row: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"path": self.path, "similarity": round(self.similarity, 6), "label": self.label}


@dataclass(frozen=True)
class Index:
    """Embeddings of images as unit rows, searched exactly.

    `unit` float32 (n, d), `paths` and `labels` per row; `added`, `reused`, `removed` count the rows that the
    last opening embedded, took over and dropped; `saved` is the file, None if it could not be written.
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

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def of(cls, embeddings: Embeddings, layer: Layer = "backbone") -> "Index":
        """The index of embeddings at hand, such as those of a file that isosphere embed wrote."""
        unit = functional.normalize(torch.from_numpy(np.ascontiguousarray(embeddings.values)).float(), dim=1)
        return cls(
            unit, embeddings.paths, embeddings.labels, embeddings.class_names, layer, embeddings.skipped
        )

    def of_files(self, source: Source) -> "Index":
        """Without the rows of images of `source` that are the same file as an earlier one, by a link."""
        own = {source.paths[i] for i in first_of_each(source)}
        rows = [row for row, path in enumerate(self.paths) if path in own]
        if len(rows) == len(self):
            return self
        paths = [self.paths[row] for row in rows]
        return replace(self, unit=self.unit[rows], paths=paths, labels=self.labels[rows])

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

    def _match(self, row: int, similarity: float) -> Match:
        label = int(self.labels[row])
        name = self.class_names[label] if 0 <= label < len(self.class_names) else None
        # Rounding may take a cosine past 1 by a few units in the last place.
        return Match(self.paths[row], max(-1.0, min(1.0, similarity)), name, row)


def open_index(
    run: Embedder,
    data: Any,
    *,
    layer: Layer | str = "backbone",
    workers: int = 2,
    progress: Progress | None = None,
) -> Index:
    """The images of `data` made searchable.

    The embeddings are kept in the run's folder, under ``search/``, unless the run has no cache. On later calls only
    images are embedded that are new or have changed (:func:`isosphere.data.stamps`), and those that are gone are
    dropped; other weights in the run's folder start afresh. Pictures at hand have no name to be kept under, and are
    embedded every time.

    Raises: RunError if no image can be read.
    """
    layer = run.check_layer(layer)
    source = source_of(data)
    if run.cache is None or not source.location:
        return Index.of(embed_source(run, source, layer=layer, workers=workers, progress=progress), layer)
    marks = stamps(source)
    file = _index_file(run, source, layer)
    identity = f"{run.identity}, pixels {PIXELS}"
    old = _read(file, identity)
    known = {} if old is None else {key: i for i, key in enumerate(_keys(old.paths, old.stamps))}
    rows = [known.get(key, -1) if key[1] != _UNKNOWN else -1 for key in _keys(source.paths, marks)]
    todo = [i for i, row in enumerate(rows) if row < 0]
    kept = [i for i, row in enumerate(rows) if row >= 0]
    blocks: list[Embeddings] = []
    positions: list[int] = []
    if old is not None and kept:
        blocks.append(old.take([rows[i] for i in kept], source, kept))
        positions += [i for i in kept if old.readable[rows[i]]]
    if todo:
        part = source.subset(todo)
        fresh = embed_readable(run, part, layer=layer, workers=workers, progress=progress)
        blocks.append(fresh)
        lost = {path for path, _ in fresh.skipped}
        positions += [i for i in todo if source.paths[i] not in lost]
    whole = join(blocks, source)
    require_readable(source, len(whole), whole.skipped, strict=False)
    order = np.argsort(np.asarray(positions), kind="stable")
    whole = Embeddings(
        whole.values[order],
        whole.labels[order],
        [whole.paths[i] for i in order],
        source.class_names,
        whole.skipped,
    )
    gone = 0 if old is None else len(old.paths) - len(kept)
    saved: Path | None = file
    if todo or gone or old is None:
        saved = _write(file, identity, whole, dict(zip(source.paths, marks, strict=True)))
    made = Index.of(whole, layer)
    lost = {path for path, _ in whole.skipped}
    added = sum(source.paths[i] not in lost for i in todo)
    return replace(made, added=added, reused=len(whole) - added, removed=gone, saved=saved)


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

    def take(self, rows: list[int], source: Source, positions: list[int]) -> Embeddings:
        place = self.place[rows]
        good = place >= 0
        chosen = np.asarray(positions, np.int64)[good]
        skipped = [(self.paths[r], self.reasons[r]) for r, ok in zip(rows, good, strict=True) if not ok]
        paths = [source.paths[i] for i in chosen]
        return Embeddings(self.values[place[good]], source.labels[chosen], paths, source.class_names, skipped)


def _index_file(run: Embedder, source: Source, layer: Layer) -> Path:
    facts = f"{source.location}\n{layer}\n{run.canvas}".encode("utf-8", "surrogateescape")
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in source.name)[:40]
    digest = hashlib.blake2b(facts, digest_size=8).hexdigest()
    return run.folder.path / "search" / f"{name}-{layer}-{digest}.npz"


def _keys(paths: list[str], stamps: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
    """What an image is known by: its name, and what changes when the image does."""
    return zip(paths, (row.tobytes() for row in stamps), strict=True)


def _read(file: Path, identity: str) -> _Stored | None:
    """The stored index, or None if there is none that can be used: it can always be made again."""
    try:
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


def _write(file: Path, identity: str, found: Embeddings, stamps: dict[str, NDArray[np.int64]]) -> Path | None:
    """Keep the index; a run's folder that cannot be written to costs time, not the search."""
    listed = [(path, reason) for path, reason in found.skipped if path in stamps]
    paths = found.paths + [path for path, _ in listed]
    place = np.concatenate([np.arange(len(found)), np.full(len(listed), -1)]).astype(np.int64)
    arrays = {
        "identity": np.asarray(identity),
        "embeddings": found.values,
        "stamps": np.array([stamps[path] for path in paths], np.int64).reshape(-1, 2),
        "place": place,
    }
    arrays["paths"], arrays["path_ends"] = pack_texts(paths)
    arrays["reasons"], arrays["reason_ends"] = pack_texts(
        [""] * len(found) + [reason for _, reason in listed]
    )
    try:
        file.parent.mkdir(exist_ok=True)
        with atomic_file(file) as handle:
            np.savez(handle, **arrays)
    except (RunError, OSError):
        return None
    return file
