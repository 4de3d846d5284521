"""Images in Parquet files, as data sets are published: a column of encoded images, and perhaps one of labels."""

import importlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import RemoteError, UsageError
from isosphere.reading import require_regular

from ._encoded import EncodedSource
from ._files import File, LocalFile
from ._labels import class_positions, positions_of
from ._layout import TEST_NAMES, TRAIN_NAMES, no_test_part, part_of
from ._limits import UnreadableImageError, reason_of, require_fitting
from ._source import Origin, Split

_IMAGES = ("image", "img", "images", "jpg", "png", "webp", "image_bytes", "bytes")
_LABELS = ("label", "labels", "cls", "class", "fine_label", "target", "y")
_KEPT = 3


class ParquetSource(EncodedSource):
    """Images of one or several Parquet files: bytes, or a structure that holds ``bytes``; read by groups of rows, of
    which the last few are kept.

    The label is an integer or a word; names of classes are those that Hugging Face's ``datasets`` writes beside them.
    Words ``train``, ``test`` or ``val`` in the names of files split the source.

    Raises: UsageError if pyarrow is not installed, or a file holds something else, with what it holds.
    """

    def __init__(self, files: Sequence[File], *, name: str, typed: str, split: Split = None) -> None:
        tables = [_read_table(file) for file in files]
        present = {table.part for table in tables}
        train = next((word for word in TRAIN_NAMES if word in present), None)
        test = next((word for word in TEST_NAMES if word in present), None) if train else None
        if split == "test" and test is None:
            raise no_test_part(typed)
        wanted = {"train": {train}, "test": {test}, None: present}[split] if test else present
        classes = next((table.class_names for table in tables if table.class_names is not None), None)
        positions, class_names = class_positions([t.labels for t in tables if t.labels is not None], classes)
        taken = [table for table in tables if table.part in wanted]
        outside = [table for table in tables if split and table.part not in (train, test)] if test else []
        super().__init__(
            name,
            [f"{table.name}/{i}" for table in taken for i in range(table.count)],
            labels=np.concatenate([positions_of(table.labels, positions, table.count) for table in taken]),
            class_names=class_names,
            has_test_split=test is not None,
            left_out=[(table.name, f"{table.count} images in neither part") for table in outside],
        )
        self._tables = taken
        self._starts = np.cumsum([0, *(table.count for table in taken)])
        self._forget()

    def body(self, i: int) -> bytes:
        t = int(np.searchsorted(self._starts, i, side="right")) - 1
        table, row = self._tables[t], int(i - self._starts[t])
        group = int(np.searchsorted(table.starts, row, side="right")) - 1
        try:
            with self._lock:
                body = self._group(t, group)[row - int(table.starts[group])].as_py()
        except RemoteError:
            raise
        except Exception as error:  # pyarrow raises its own on a damaged file
            raise UnreadableImageError(reason_of(error)) from error
        if body is None:
            raise UnreadableImageError("the row holds no bytes of an image")
        require_fitting(len(body))
        return body

    def origin(self, i: int) -> Origin:
        t = int(np.searchsorted(self._starts, i, side="right")) - 1
        file = self._tables[t].file
        return Origin(file.place, int(i - self._starts[t]), 0, file.version)

    def _group(self, t: int, group: int) -> Any:
        """The images of a group of rows, from memory if they were asked for a moment ago."""
        if (
            self._owner != os.getpid()
        ):  # threads of pyarrow do not survive a fork: what they hold is left alone
            self._forget()
        if (t, group) not in self._kept:
            table = self._tables[t]
            with _opened(table.file) as archive:
                column = archive.read_row_group(group, columns=[table.column], use_threads=False)[0]
            found = column.combine_chunks()
            self._kept[t, group] = found.field("bytes") if "." in table.column else found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((t, group))
        return self._kept[t, group]

    def _forget(self) -> None:
        self._owner, self._lock = os.getpid(), threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_owner", "_lock", "_kept")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, key, value)
        self._forget()


@dataclass(frozen=True)
class _Table:
    """A file: where its groups of rows begin, the column of images, labels and names of classes as they are stated."""

    file: File
    starts: NDArray[np.int64]
    column: str
    labels: NDArray | None
    class_names: NDArray | None

    @property
    def count(self) -> int:
        return int(self.starts[-1])

    @property
    def name(self) -> str:
        return self.file.path.name

    @property
    def part(self) -> str | None:
        return part_of(self.name)


def _read_table(file: File) -> _Table:
    try:
        with _opened(file) as archive:
            schema, groups = archive.schema_arrow, archive.metadata
            column, label = _columns(schema)
            lengths = [groups.row_group(g).num_rows for g in range(groups.num_row_groups)]
            labels = None
            if label is not None:
                found = archive.read([label])[0].to_pylist()
                empty: Any = "" if any(isinstance(x, str) for x in found) else -1
                labels = np.array([empty if x is None else x for x in found])
            return _Table(file, np.cumsum([0, *lengths]), column, labels, _class_names(schema, label))
    except (UsageError, RemoteError):
        raise
    except Exception as error:  # pyarrow raises its own on a damaged file
        raise UsageError(f"{file} cannot be used: {reason_of(error)}.") from error


def _columns(schema: Any) -> tuple[str, str | None]:
    """The column of images, with the field within, and that of labels."""
    names = [name for name in _IMAGES if name in schema.names] + list(schema.names)
    for name in names:
        kind = str(schema.field(name).type)
        if kind in ("binary", "large_binary"):
            break
        if kind.startswith("struct<") and "bytes: binary" in kind:
            name = f"{name}.bytes"
            break
    else:
        held = ", ".join(f"{field.name} {field.type}" for field in list(schema)[:8])
        raise ValueError(f"it holds {held}; expected a column of encoded images, called image or bytes")
    label = next((each for each in _LABELS if each in schema.names), None)
    plain = label is not None and str(schema.field(label).type).startswith(
        ("int", "uint", "string", "large_string")
    )
    return name, label if plain else None


def _class_names(schema: Any, label: str | None) -> NDArray | None:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return np.array(features[label]["names"], dtype=np.str_)
    except (KeyError, TypeError, ValueError):
        return None


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    """The file as pyarrow opens it."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            f"{file} is a Parquet file, and pyarrow, which reads them, is not installed. Type: pip install pyarrow."
        ) from error
    if isinstance(file, LocalFile):
        require_regular(file.path)
    with parquet.ParquetFile(file.path if isinstance(file, LocalFile) else file.open()) as archive:
        yield archive
