"""Embeddings in Parquet files, as isosphere embed writes them: a file, or a folder of parts that no memory holds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere.deploy._kinds import PROVENANCE, Provenance, embeddings_of, pyarrow
from isosphere.errors import IsosphereError, RunError, UsageError
from isosphere.reading import UnreadableError, read_json

NOTES = "_parts"
"""Folder, among parts that :mod:`isosphere.ray` makes: of each its rows, and the images that were left out;
in ``parts.json`` how many there are to be.
"""
_COLUMNS = ("path", "label", "class", "embedding")


@dataclass(frozen=True)
class VectorFiles:
    """Parquet files of embeddings that one encoder made; rows are numbered through all files, in the order of their
    names. Nothing is held in memory but where the groups of rows begin.
    """

    files: tuple[Path, ...]
    groups: tuple[tuple[int, int, int], ...]
    """(file, group within it, rows) in order."""
    dim: int
    provenance: Provenance

    def __len__(self) -> int:
        return sum(rows for _, _, rows in self.groups)

    @property
    def stamp(self) -> list[list[str | int]]:
        """What changes when the files do: name, bytes, time of writing."""
        states = [(file.name, file.stat()) for file in self.files]
        return [[name, state.st_size, state.st_mtime_ns] for name, state in states]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The vectors, a group of rows at a time: float32 ``(n, d)``."""
        for which, members in groupby(self.groups, key=lambda group: group[0]):
            with _open(self.files[which]) as file:
                for _, group, _ in members:
                    table = file.read_row_group(group, columns=["embedding"])
                    yield embeddings_of(table, self.dim)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], list[str], list[str | None]]:
        """Vectors, paths and classes of rows in ascending order; only the groups that hold one are read."""
        ends = np.cumsum([count for _, _, count in self.groups])
        within = np.searchsorted(ends, rows, side="right")
        vectors, paths, classes = [np.empty((0, self.dim), np.float32)], [], []
        for which, groups in groupby(np.unique(within).tolist(), key=lambda g: self.groups[g][0]):
            with _open(self.files[which]) as file:
                for g in groups:
                    first = ends[g] - self.groups[g][2]
                    table = file.read_row_group(self.groups[g][1], columns=["path", "class", "embedding"])
                    table = table.take(rows[within == g] - first)
                    vectors.append(embeddings_of(table, self.dim))
                    paths += table["path"].to_pylist()
                    classes += table["class"].to_pylist()
        return np.concatenate(vectors), paths, classes


def holds_vectors(data: Any) -> bool:
    """Whether a name is that of a Parquet file of embeddings, or of a folder whose files are such, rather than of
    images.
    """
    if not isinstance(data, (str, Path)):
        return False
    try:
        files = _files(Path(data))
    except (OSError, ValueError):
        return False
    if not files:
        return False
    try:
        return {"path", "embedding"} <= set(pyarrow().parquet.read_schema(files[0]).names)
    except (UsageError, OSError, ValueError):  # who opens it as images says why that fails
        return False


def open_vectors(data: str | Path) -> VectorFiles:
    """The embeddings of a Parquet file, or of a folder of them.

    Raises:
        UsageError: a file that does not say what made it, or another encoder than that of the others.
        RunError: a damaged file, or none with rows; a folder in which parts are missing.
    """
    _require_whole(Path(data))
    files = _files(Path(data))
    groups: list[tuple[int, int, int]] = []
    first: tuple[Path, Provenance, int] | None = None
    for number, file in enumerate(files):
        with _open(file) as opened:
            facts, schema = opened.metadata, opened.schema_arrow
            counts = [facts.row_group(g).num_rows for g in range(facts.num_row_groups)]
        if lacking := [name for name in _COLUMNS if name not in schema.names]:
            raise UsageError(
                f"{file} has no column {lacking[0]}: expected embeddings that isosphere embed wrote."
            )
        if (said := (schema.metadata or {}).get(PROVENANCE)) is None:
            raise UsageError(
                f"{file} does not say which weights made its embeddings: written by an older release, or by another "
                "program. Embed the images again."
            )
        try:
            made = Provenance.parse(said)
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{file} is damaged: what made its embeddings cannot be read. Embed again."
            ) from error
        here = (file, made, schema.field("embedding").type.list_size)
        first = first or here
        if here[1:] != first[1:]:
            raise UsageError(
                f"{file} and {first[0]} were made by different weights, layers or preprocessing, and cannot be "
                "searched together: put them into different folders."
            )
        groups += [(number, g, count) for g, count in enumerate(counts)]
    if first is None or not any(count for _, _, count in groups):
        raise RunError(f"{data} holds no embeddings: expected Parquet files that isosphere embed wrote.")
    return VectorFiles(tuple(files), tuple(groups), first[2], first[1])


def part_file(folder: str | Path, part: int) -> Path:
    """Where :mod:`isosphere.ray` writes a part."""
    return Path(folder) / f"part-{part:06d}.parquet"


def part_note(folder: str | Path, part: int) -> Path:
    """Where it writes what is known of it: rows, and images that were left out."""
    return Path(folder) / NOTES / f"{part:06d}.json"


def _require_whole(folder: Path) -> None:
    try:
        count = int(read_json(folder / NOTES / "parts.json")["parts"])
    except (UnreadableError, KeyError, TypeError, ValueError):
        return  # of one process, or put together by hand
    lacking = sum(not _is_made(folder, part) for part in range(count))
    if lacking:
        raise RunError(
            f"{folder} is not whole: {lacking} of {count} parts are missing. The isosphere embed that wrote it "
            "makes them when it is typed again."
        )


def _is_made(folder: Path, part: int) -> bool:
    try:
        rows = read_json(part_note(folder, part))["rows"]
    except (UnreadableError, KeyError):
        return False
    return rows == 0 or part_file(folder, part).is_file()


def _files(path: Path) -> Sequence[Path]:
    """The Parquet file, or those of a folder that holds nothing else that is seen."""
    if path.is_dir():
        seen = sorted(file for file in path.iterdir() if not file.name.startswith((".", "_")))
        return seen if all(file.suffix.lower() == ".parquet" and file.is_file() for file in seen) else []
    return [path] if path.suffix.lower() == ".parquet" and path.is_file() else []


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    """A file, whose pages are held against their checksums as they are read. Raises: RunError where it is damaged."""
    try:
        with pyarrow().parquet.ParquetFile(file, page_checksum_verification=True) as opened:
            yield opened
    except (OSError, ValueError) as error:
        if isinstance(error, IsosphereError):
            raise
        raise RunError(
            f"{file} is damaged or no file of embeddings ({error}): embed its images again."
        ) from error
