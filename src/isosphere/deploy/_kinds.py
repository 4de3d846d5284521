"""The kinds of files that hold embeddings: each is written block by block, and read back whole."""

import contextlib
import importlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere.errors import UsageError
from isosphere.tabular import csv_rows, csv_text, decode_name, encode_name


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of n images: positions in `names` int64 (n,), and their probabilities float32 (n,)."""

    classes: NDArray[np.int64]
    confidence: NDArray[np.float32]
    names: tuple[str, ...]

    def words(self) -> list[str]:
        """The classes by name."""
        return [self.names[k] for k in self.classes.tolist()]

    def counts(self) -> list[dict[str, Any]]:
        """Of each class its name, the number of its images, and their mean probability (0 without images)."""
        images = np.bincount(self.classes, minlength=len(self.names))
        total = np.bincount(self.classes, self.confidence, minlength=len(self.names))
        means = total / np.maximum(images, 1)
        return [
            {"class": name, "images": int(n), "confidence": float(mean)}
            for name, n, mean in zip(self.names, images, means, strict=True)
        ]

    @classmethod
    def join(cls, blocks: "Sequence[Predictions]") -> "Predictions":
        """Those of blocks in order, of one classifier."""
        return cls(
            np.concatenate([block.classes for block in blocks]),
            np.concatenate([block.confidence for block in blocks]),
            blocks[0].names,
        )


@dataclass(frozen=True)
class Provenance:
    """What made embeddings: digest of the weights (and the metric), preprocessing as JSON, layer."""

    weights: str
    pixels: str
    layer: str

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(vars(self))

    @classmethod
    def parse(cls, text: str | bytes) -> "Provenance":
        """What `text` says. Raises: ValueError."""
        said = json.loads(text)
        if (
            not isinstance(said, dict)
            or said.keys() != cls.__dataclass_fields__.keys()
            or any(not isinstance(value, str) for value in said.values())
        ):
            raise ValueError("it says in no known form what made it")
        return cls(**said)


PROVENANCE = b"isosphere.provenance"
"""Key of the metadata of a Parquet file."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the readable images of a source, in its order.

    Shape: `values` float32 (n, d), `labels` int64 (n,) with -1 for none, `paths` n names. `skipped` names the
    images that could not be read, with reasons. `provenance` says what made them, where it is known.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    paths: list[str]
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    predictions: Predictions | None = None
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.values)

    def name_of(self, label: int) -> str | None:
        """The class of a label; None for none."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else None


class Writer:
    """Rows that go to a handle: ``add(block)`` as often as there are blocks, then ``finish()``, or ``abandon()`` where
    something has failed. Blocks speak of the same classes; `count` rows will come.
    """

    def __init__(self, handle: BinaryIO, count: int, class_names: list[str]) -> None:
        self.handle, self.count, self.class_names = handle, count, class_names

    def add(self, block: Embeddings) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what comes after the rows."""

    def abandon(self) -> None:
        """Give up; the handle is closed by others."""


class NpzWriter(Writer):
    """Arrays ``embeddings``, ``labels``, ``paths`` and ``class_names``; the last three wait until all rows have come,
    since an archive has one open member at a time.
    """

    def __init__(self, handle: BinaryIO, count: int, class_names: list[str]) -> None:
        super().__init__(handle, count, class_names)
        self._zip = zipfile.ZipFile(handle, "w", allowZip64=True)
        self._member: Any = None
        self._labels: list[np.ndarray] = []
        self._paths: list[np.ndarray] = []
        self._predicted: list[np.ndarray] = []
        self._confidence: list[np.ndarray] = []

    def add(self, block: Embeddings) -> None:
        if self._member is None:
            self._member = self._zip.open("embeddings.npy", "w", force_zip64=True)
            shape = (self.count, block.values.shape[1])
            descr = np.lib.format.dtype_to_descr(np.dtype("<f4"))
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._member, header)
        self._member.write(np.ascontiguousarray(block.values, "<f4").tobytes())
        self._labels.append(block.labels)
        self._paths.append(np.asarray(block.paths, dtype=np.str_))
        if block.predictions is not None:
            self._predicted.append(np.asarray(block.predictions.words(), dtype=np.str_))
            self._confidence.append(block.predictions.confidence)

    def finish(self) -> None:
        if self._member is None:
            self._array("embeddings", np.empty((0, 0), np.float32))
        else:
            self._member.close()
        self._array("labels", np.concatenate([*self._labels, np.empty(0, np.int64)]).astype("<i8"))
        self._array("paths", np.concatenate([*self._paths, np.empty(0, np.str_)]))
        self._array("class_names", np.asarray(self.class_names, dtype=np.str_))
        if self._predicted:
            self._array("predicted", np.concatenate(self._predicted))
            self._array("confidence", np.concatenate(self._confidence).astype("<f4"))
        self._zip.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._member is not None:
                self._member.close()
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()

    def _array(self, name: str, array: np.ndarray) -> None:
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)


def read_npz(file: Path) -> Embeddings:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return Embeddings(
            arrays["embeddings"],
            arrays["labels"],
            arrays["paths"].tolist(),
            arrays["class_names"].tolist() if "class_names" in arrays else [],
        )


class ParquetWriter(Writer):
    """Columns ``path``, ``label``, ``class`` and ``embedding``, a row group a block; without numbers, no embedding."""

    _writer: Any = None

    def add(self, block: Embeddings) -> None:
        pa = pyarrow()
        flat = pa.array(np.ascontiguousarray(block.values, np.float32).reshape(-1))
        columns = {
            "path": pa.array([encode_name(path) for path in block.paths], pa.string()),
            "label": pa.array(block.labels, pa.int64()),
            "class": pa.array(
                [
                    None if (name := block.name_of(label)) is None else encode_name(name)
                    for label in block.labels
                ],
                pa.string(),
            ),
        }
        if dim := block.values.shape[1]:
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, dim)
        if block.predictions is not None:
            columns["predicted"] = pa.array(map(encode_name, block.predictions.words()), pa.string())
            columns["confidence"] = pa.array(block.predictions.confidence, pa.float32())
        said = {} if block.provenance is None else {PROVENANCE: block.provenance.text}
        names = {"class_names": json.dumps(self.class_names)}
        table = pa.table(columns).replace_schema_metadata({**names, **said})
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(self.handle, table.schema, write_page_checksum=True)
        self._writer.write_table(table)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self.finish()


def read_parquet(file: Path) -> Embeddings:
    table = pyarrow().parquet.read_table(file, page_checksum_verification=True)
    numbers = "embedding" in table.schema.names
    dim = table.schema.field("embedding").type.list_size if numbers else 0
    facts = table.schema.metadata or {}
    names = facts.get(b"class_names", b"").decode()
    made = facts.get(PROVENANCE)
    return Embeddings(
        embeddings_of(table, dim) if numbers else np.empty((len(table), 0), np.float32),
        table["label"].to_numpy(),
        [decode_name(path) for path in table["path"].to_pylist()],
        # Until 0.9 the names were lines.
        json.loads(names) if names.startswith("[") else names.split("\n") if names else [],
        provenance=None if made is None else Provenance.parse(made),
    )


def embeddings_of(table: Any, dim: int) -> NDArray[np.float32]:
    """The embeddings of a table of Arrow: float32 ``(n, dim)``, a copy that can be written to."""
    values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(values).reshape(-1, dim)


class CsvWriter(Writer):
    """A line an image: path, label, class, and the numbers as ``e0``, ``e1``, ..., with the nine digits that say all
    of a float32. Of images without classes that a classifier was asked about, no label and no class.
    """

    _begun = False

    def add(self, block: Embeddings) -> None:
        rows: list[list[Any]] = []
        labelled = bool(self.class_names) or block.predictions is None
        if not self._begun:
            self._begun = True
            asked = [] if block.predictions is None else ["predicted", "confidence"]
            numbers = (f"e{i}" for i in range(block.values.shape[1]))
            rows.append(["path", *(["label", "class"] if labelled else []), *asked, *numbers])
        number, found = "%.9g".__mod__, block.predictions
        said = (
            [[]] * len(block)
            if found is None
            else [[word, number(p)] for word, p in zip(found.words(), found.confidence.tolist(), strict=True)]
        )
        each = zip(block.paths, block.labels.tolist(), said, block.values.tolist(), strict=True)
        for path, label, more, row in each:
            known = [label, block.name_of(label)] if labelled else []
            rows.append([path, *known, *more, *map(number, row)])
        self.handle.write(csv_text(rows).encode("utf-8"))


def read_csv(file: Path) -> Embeddings:
    """The classes are those that have an image: a table does not name the others."""
    header, *rows = csv_rows(file.read_bytes().decode("utf-8"))
    if header[:3] == ["path", "predicted", "confidence"]:
        header, rows = ["path", "label", "class", *header[1:]], [[row[0], "-1", "", *row[1:]] for row in rows]
    if header[:3] != ["path", "label", "class"]:
        raise ValueError(f"its columns are {', '.join(header[:3])}, ...")
    labels = [int(row[1]) for row in rows]
    names = {label: row[2] for label, row in zip(labels, rows, strict=True) if label >= 0}
    first = 5 if header[3:5] == ["predicted", "confidence"] else 3
    values = np.array([row[first:] for row in rows], np.float32).reshape(len(rows), len(header) - first)
    top = max(names, default=-1)
    if top > len(rows):
        raise ValueError(f"it has a label of {top} and {len(rows)} rows")
    classes = [names.get(label, "") for label in range(top + 1)]
    return Embeddings(values, np.array(labels, np.int64), [row[0] for row in rows], classes)


class TorchWriter(Writer):
    """A mapping of tensors and lists, as ``torch.load(path, weights_only=True)`` gives it back; in memory until all
    rows have come.
    """

    def __init__(self, handle: BinaryIO, count: int, class_names: list[str]) -> None:
        super().__init__(handle, count, class_names)
        self._blocks: list[Embeddings] = []

    def add(self, block: Embeddings) -> None:
        self._blocks.append(block)

    def finish(self) -> None:
        blocks, buffer = self._blocks, io.BytesIO()
        content = {
            "embeddings": torch.cat([torch.from_numpy(np.ascontiguousarray(b.values)) for b in blocks]),
            "labels": torch.cat([torch.from_numpy(np.ascontiguousarray(b.labels)) for b in blocks]),
            "paths": [encode_name(path) for block in blocks for path in block.paths],
            "class_names": [encode_name(name) for name in self.class_names],
        }
        said = [block.predictions for block in blocks if block.predictions is not None]
        if said:
            content["predicted"] = [encode_name(word) for found in said for word in found.words()]
            content["confidence"] = torch.cat([torch.from_numpy(found.confidence) for found in said])
        torch.save(content, buffer)
        self.handle.write(buffer.getbuffer())


def read_torch(file: Path) -> Embeddings:
    found = torch.load(file, map_location="cpu", weights_only=True)
    paths, class_names = ([decode_name(name) for name in found[key]] for key in ("paths", "class_names"))
    return Embeddings(found["embeddings"].numpy(), found["labels"].numpy(), paths, class_names)


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    writer: Callable[[BinaryIO, int, list[str]], Writer]
    read: Callable[[Path], Embeddings]


KINDS = {
    ".npz": Kind(NpzWriter, read_npz),
    ".parquet": Kind(ParquetWriter, read_parquet),
    ".csv": Kind(CsvWriter, read_csv),
    ".pt": Kind(TorchWriter, read_torch),
}
"""By the ending of the file's name."""


def pyarrow() -> Any:
    """The package. Raises: UsageError if it is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed. Type: pip install pyarrow, or give a name that "
            "ends in .npz."
        ) from error
