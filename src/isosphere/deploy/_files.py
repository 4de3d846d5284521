"""Files of embeddings: .npz of plain arrays, or .parquet; complete or absent, never half there."""

import importlib
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from isosphere.atomic import atomic_file, make_folder
from isosphere.errors import RunError, UsageError, option

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the readable images of a source, in its order.

    Shape: `values` float32 (n, d), `labels` int64 (n,) with -1 for none, `paths` n names. `skipped` names the
    images that could not be read, with reasons.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    paths: list[str]
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


def check_target(out: str | Path, *, overwrite: bool = False) -> Path:
    """The path, if a file of embeddings may be written there; its folder is made.

    Raises: UsageError for another ending, a missing package, or a file that exists without `overwrite`.
    """
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{option('out', out)}: expected a name that ends in .npz or .parquet, for example "
            f"{path.with_suffix('.npz')}."
        )
    if path.suffix.lower() == ".parquet":
        _pyarrow()
    if path.exists() and not overwrite:
        raise UsageError(f"{out} exists: add {option('overwrite', True)}, or give another {option('out')}.")
    make_folder(path.parent)
    return path


def write_embeddings(path: str | Path, embeddings: Embeddings) -> None:
    """Write embeddings that are in memory: arrays ``embeddings`` float32 (n, d), ``labels`` int64 (n,),
    ``paths`` and ``class_names`` as text; as .parquet the columns path, label, class and embedding.
    """
    with FileWriter(Path(path), len(embeddings), embeddings.class_names) as writer:
        if len(embeddings):
            writer.add(embeddings)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read a file that `write_embeddings` wrote; nothing is unpickled.

    Raises: UsageError if it is absent or another kind of file; RunError if it is damaged.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no file {path}: expected embeddings that isosphere embed wrote.")
    if file.suffix.lower() == ".parquet":
        table = _pyarrow().parquet.read_table(file)
        dim = table.schema.field("embedding").type.list_size
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        names = (table.schema.metadata or {}).get(b"class_names", b"")
        return Embeddings(
            values.reshape(-1, dim).astype(np.float32, copy=False),
            table["label"].to_numpy(),
            table["path"].to_pylist(),
            names.decode().split("\n") if names else [],
        )
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Embeddings(
                arrays["embeddings"],
                arrays["labels"],
                arrays["paths"].tolist(),
                arrays["class_names"].tolist() if "class_names" in arrays else [],
            )
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} is damaged or no file of embeddings ({error}): embed the images again."
        ) from error


class FileWriter:
    """Writes embeddings block by block: ``with FileWriter(path, n, class_names) as w: w.add(block)``.

    `count` is the number of rows that will come. The file replaces what was there when all have come.
    """

    def __init__(self, path: Path, count: int, class_names: list[str]) -> None:
        self.path, self.count, self.class_names = path, count, class_names
        self.dim = 0
        self._stack = ExitStack()
        self._done = 0
        self._parquet: Any = None
        self._member: Any = None
        self._labels: list[np.ndarray] = []
        self._paths: list[np.ndarray] = []

    def __enter__(self) -> Self:
        self._handle: BinaryIO = self._stack.enter_context(atomic_file(self.path))
        if self.path.suffix.lower() != ".parquet":
            # An archive has one open member at a time: labels and paths wait, they are small.
            self._zip = self._stack.enter_context(zipfile.ZipFile(self._handle, "w", allowZip64=True))
        return self

    def add(self, block: Embeddings) -> None:
        """Append rows."""
        self.dim = block.values.shape[1]
        self._done += len(block)
        if self.path.suffix.lower() == ".parquet":
            self._add_rows(block)
            return
        if self._member is None:
            self._member = self._zip.open("embeddings.npy", "w", force_zip64=True)
            _header(self._member, (self.count, self.dim), np.dtype("<f4"))
        self._member.write(np.ascontiguousarray(block.values, "<f4").tobytes())
        self._labels.append(block.labels)
        self._paths.append(np.asarray(block.paths, dtype=np.str_))

    def _add_rows(self, block: Embeddings) -> None:
        pa = _pyarrow()
        flat = pa.array(np.ascontiguousarray(block.values, np.float32).reshape(-1))
        named = [self.class_names[i] if 0 <= i < len(self.class_names) else None for i in block.labels]
        columns = {
            "path": pa.array(block.paths, pa.string()),
            "label": pa.array(block.labels, pa.int64()),
            "class": pa.array(named, pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, self.dim),
        }
        table = pa.table(columns).replace_schema_metadata({"class_names": "\n".join(self.class_names)})
        if self._parquet is None:
            self._parquet = pa.parquet.ParquetWriter(self._handle, table.schema)
        self._parquet.write_table(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None:
            if self._done != self.count:
                raise ValueError(f"got {self._done} rows, expected {self.count}")
            self._finish()
        elif self._member is not None:
            self._member.close()
        return self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
        if self.path.suffix.lower() == ".parquet":
            return
        if self._member is None:
            self._array("embeddings", np.empty((0, self.dim), np.float32))
        else:
            self._member.close()
        width = max((part.dtype.itemsize for part in self._paths), default=4)
        self._array("labels", np.concatenate([*self._labels, np.empty(0, np.int64)]).astype("<i8"))
        self._array("paths", np.concatenate([*self._paths, np.empty(0, f"<U{width // 4}")]))
        self._array("class_names", np.asarray(self.class_names, dtype=np.str_))

    def _array(self, name: str, array: np.ndarray) -> None:
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)


def _header(member: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, fields)


def _pyarrow() -> Any:
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed. Type: pip install pyarrow, or give a name that "
            "ends in .npz."
        ) from error
