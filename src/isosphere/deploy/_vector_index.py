"""Search by cosine among embeddings in Parquet files, by a FAISS index that is kept and that others can open."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from isosphere.atomic import atomic_file, write_json
from isosphere.deploy._embedder import Embedder
from isosphere.deploy._index import Match
from isosphere.deploy._kinds import Provenance
from isosphere.deploy._layers import Layer
from isosphere.deploy._vectors import VectorFiles, open_vectors
from isosphere.errors import RunError, UsageError, command, option, plural
from isosphere.reading import UnreadableError, read_json, require_regular
from isosphere.reductions import SearchEngine, find_faiss, nearest_neighbours

IVF_FROM = 1_000_000
"""Rows from which an index is approximate (IVF-PQ); below, and without FAISS, every row is compared."""

SOUGHT = 0.95
"""Recall of the ten nearest up to which more and more cells are looked into."""

_ASKED, _NEAREST = 100, 10
_A_CELL = 64  # rows of the training sample; FAISS asks for 39
_SLACK = 32


@dataclass(frozen=True)
class VectorIndex:
    """Embeddings in Parquet files, searched by cosine.

    ``run`` embeds queries as the rows were embedded. ``recall`` is the share of the ten nearest of sampled rows that
    the index finds; 1 where every row is compared. ``kind`` is FAISS's name of the index; empty: none, each
    search reads all files. ``saved`` is its file.
    """

    run: Embedder
    files: VectorFiles
    kind: str
    recall: float
    saved: Path | None
    built: bool
    index: Any = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def layer(self) -> Layer:
        """The layer that the rows are of."""
        return self.run.check_layer(self.files.provenance.layer)

    def search(self, queries: ArrayLike, k: int = 5) -> list[list[Match]]:
        """The k most similar rows to each query ``(m, d)``, best first; of equals the earlier row. An approximate index
        proposes ten times as many, at least 100, of which the cosines are computed from the vectors in the files.

        Raises: ValueError for k < 1 or another dimension.
        """
        x = _unit(torch.as_tensor(np.atleast_2d(np.asarray(queries, np.float32))))
        if k < 1 or x.shape[1] != self.files.dim:
            raise ValueError(f"got k = {k} and {x.shape[1]} dimensions, expected k >= 1 and {self.files.dim}")
        k = min(k, len(self))
        found = _exact(self.files, x, k)[1].numpy() if self.index is None else self._proposed(x, k)
        rows = np.unique(found[found >= 0])
        vectors, paths, classes = self.files.take(rows)
        places = [np.searchsorted(rows, np.unique(each[each >= 0])) for each in found]
        unit = _unit(torch.from_numpy(vectors)).double()
        matches = []
        for query, own in zip(x.double(), places, strict=True):
            cosines = (unit[own] @ query).clamp(-1.0, 1.0).float()
            best = cosines.sort(descending=True, stable=True).indices[:k].tolist()
            matches.append(
                [Match(paths[own[b]], float(cosines[b]), classes[own[b]], int(rows[own[b]])) for b in best]
            )
        return matches

    def _proposed(self, unit: Tensor, k: int) -> NDArray[np.int64]:
        wide = k + _SLACK if self.kind == "Flat" else max(10 * k, 100)
        return self.index.search(unit.numpy(), min(wide, len(self)))[1]


def open_vector_index(
    run: Embedder,
    data: str | Path,
    *,
    layer: Layer | str | None = None,
    engine: SearchEngine = "auto",
    ivf_from: int = IVF_FROM,
    progress: Callable[[int, int], object] | None = None,
) -> VectorIndex:
    """Embeddings that isosphere embed wrote to a Parquet file, or a folder of them, made searchable.

    The index is FAISS's: ``IndexFlatIP`` of unit rows, from `ivf_from` rows on IVF-PQ, trained on a sample, of which so
    many cells are looked into that 95 % of the ten nearest of 100 rows are found (or all cells). It is kept under
    ``search/`` in the run's folder, unless the run has no cache, and built again when the files change.

    Args:
        layer: None: that of the embeddings. engine: ``blocked`` reads all files for each search, and needs no FAISS.

    Raises:
        UsageError: embeddings that other weights made, another layer or preprocessing; FAISS is lacking.
        RunError: damaged files.
    """
    files = open_vectors(data)
    run = _asking(run, files.provenance, data, layer)
    faiss = None if engine == "blocked" else find_faiss()
    if faiss is None:
        if engine == "faiss" or (engine == "auto" and len(files) >= ivf_from):
            raise UsageError(
                f"{plural(len(files), 'image')} are searched by FAISS, which is not installed. Type: pip install "
                f"faiss-cpu, or give {option('engine', 'blocked')}, which reads all of {data} each time."
            )
        return VectorIndex(run, files, "", 1.0, None, False)
    kept = None if run.cache is None else _file(run, data)
    facts = {"provenance": files.provenance.text, "files": files.stamp, "ivf_from": ivf_from}
    if kept is not None and (found := _read(kept, faiss, facts, files)) is not None:
        index, said = found
        return VectorIndex(run, files, said["kind"], said["recall"], kept, False, index)
    kind, index = _built(faiss, files, ivf_from, progress)
    made = VectorIndex(run, files, kind, 1.0, None, True, index)
    if kind != "Flat":
        made = replace(made, recall=_tuned(made))
    saved = (
        None if kept is None else _write(kept, faiss, index, {**facts, "kind": kind, "recall": made.recall})
    )
    return replace(made, saved=saved)


def _asking(run: Embedder, made: Provenance, data: str | Path, layer: str | None) -> Embedder:
    """The run as it made these embeddings. Raises: UsageError if it did not."""
    if made.weights != run.identity:
        raise UsageError(
            f"the embeddings in {data} were made by other weights ({made.weights[:12]}) than those of "
            f"{run.folder.path} ({run.identity[:12]}): name the run that made them, or embed the images again: "
            f"{command('embed', 'PICTURES', run.folder.path, out='DIR')}"
        )
    if layer is not None and run.check_layer(layer) != made.layer:
        raise UsageError(
            f"{option('layer', layer)}: the embeddings in {data} are of the layer {made.layer}. Leave "
            f"{option('layer')} out, or embed the images again."
        )
    key = json.loads(made.pixels)
    run = run.looking(int(key.get("passes", 1)))
    run = replace(run, reading=replace(run.reading, fit=key.get("fit"), white=key.get("white")))
    if json.dumps(run.key) != made.pixels:
        mine = run.key
        other = next((name for name in {**mine, **key} if mine.get(name) != key.get(name)), "its order")
        raise UsageError(
            f"the embeddings in {data} were made with another preprocessing ({other}: {key.get(other)}, here "
            f"{mine.get(other)}): embed the images again."
        )
    return run


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=1)


def _exact(files: VectorFiles, unit: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and rows of the k nearest to each query, by one pass through the files."""
    values, rows, start = torch.empty(len(unit), 0), torch.empty(len(unit), 0, dtype=torch.int64), 0
    for block in files.blocks():
        if len(block):
            there = _unit(torch.from_numpy(block))
            near, own = nearest_neighbours(unit, there, min(k, len(there)))
            # Earlier rows stand first: a stable sort leaves the earlier of equals in front.
            values, order = torch.cat([values, near], 1).sort(dim=1, descending=True, stable=True)
            rows = torch.cat([rows, own + start], 1).gather(1, order)
            values, rows = values[:, :k], rows[:, :k]
            start += len(block)
    return values, rows


def _built(
    faiss: Any, files: VectorFiles, ivf_from: int, progress: Callable[[int, int], object] | None
) -> tuple[str, Any]:
    n, d = len(files), files.dim
    kind, cells = "Flat", round(4 * math.sqrt(n))
    if n >= ivf_from:
        part = next(m for m in range(max(1, d // 4), 0, -1) if d % m == 0)
        kind = f"IVF{cells},PQ{part}"
    index = faiss.index_factory(d, kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        chosen = np.random.default_rng(0).choice(n, min(n, _A_CELL * cells), replace=False)
        index.train(_unit(torch.from_numpy(files.take(np.sort(chosen))[0])).numpy())
    for block in files.blocks():
        index.add(_unit(torch.from_numpy(block)).numpy())
        if progress is not None:
            progress(int(index.ntotal), n)
    return kind, index


def _tuned(made: VectorIndex) -> float:
    """Look into twice as many cells until enough of the nearest are found; the recall. A row itself does not count."""
    n = len(made)
    asked = np.sort(np.random.default_rng(1).choice(n, min(n, _ASKED), replace=False))
    unit = _unit(torch.from_numpy(made.files.take(asked)[0]))
    nearest = _exact(made.files, unit, min(n, _NEAREST + 1))[1].tolist()
    wanted = [
        [row for row in rows if row != own][:_NEAREST] for own, rows in zip(asked, nearest, strict=True)
    ]
    cells = made.index.nlist
    probed, recall = 1, 0.0
    while recall < SOUGHT and probed <= 2 * cells:
        made.index.nprobe = min(probed, cells)
        found = made._proposed(unit, _NEAREST)
        hits = [len(set(rows) & set(proposed)) for rows, proposed in zip(wanted, found.tolist(), strict=True)]
        recall = sum(hits) / max(1, sum(map(len, wanted)))
        probed *= 2
    return recall


# --- the file of an index, and what it was made of beside it ------------------------------------------------------


def _file(run: Embedder, data: str | Path) -> Path:
    place = Path(data).absolute()
    digest = hashlib.blake2b(str(place).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in place.stem)[:40]
    return run.folder.path / "search" / f"{name}-{digest}.faiss"


def _read(
    file: Path, faiss: Any, facts: dict[str, Any], files: VectorFiles
) -> tuple[Any, dict[str, Any]] | None:
    """The index that was kept; None if there is none that can be used: it can always be made again."""
    try:
        said = read_json(file.with_suffix(".json"))
        if {key: said[key] for key in facts} != facts or said["bytes"] != require_regular(file).st_size:
            return None
        index = faiss.read_index(str(file))
        return (index, said) if (index.ntotal, index.d) == (len(files), files.dim) else None
    except (UnreadableError, OSError, RuntimeError, KeyError, TypeError):
        return None


def _write(file: Path, faiss: Any, index: Any, facts: dict[str, Any]) -> Path | None:
    """Keep the index; a run's folder that cannot be written to costs time, not the search."""
    try:
        file.parent.mkdir(exist_ok=True)
        with atomic_file(file) as handle:
            faiss.write_index(index, faiss.PyCallbackIOWriter(handle.write))
        write_json(file.with_suffix(".json"), {**facts, "bytes": file.stat().st_size})
    except (RunError, OSError):
        return None
    return file
