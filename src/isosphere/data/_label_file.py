"""Files of labels: a table of pictures, each known by its content or its path, with a word for each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from isosphere.atomic import write_text
from isosphere.errors import UsageError, nearest, option, plural
from isosphere.reading import UnreadableError
from isosphere.tabular import csv_rows, csv_text

from ._home import expanded
from ._images import digests
from ._labels import alike_classes
from ._limits import read_text, reason_of
from ._listed import LABEL_COLUMNS, PATH_COLUMNS
from ._source import DIGEST_BYTES, Source

DIGEST = "digest"
"""The column that tells a picture by its content: :meth:`Source.digest` in hexadecimal digits."""


@dataclass(frozen=True)
class LabelRow:
    """A label, and which picture it is of: by its content, else by its path; other cells by their column, in small
    letters.
    """

    label: str
    path: str = ""
    digest: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Labelled:
    """What a file of labels says of the images of a source.

    `labels` int64 (n,): positions in `class_names`, -1 for none; `groups` (n,): images with one entry in the column
    that was asked for, -1 for none. `missing`: rows of the file of which no image is there, by path; `contradicted`:
    images whose content has two labels, which are left without one.
    """

    labels: NDArray[np.int64]
    class_names: list[str]
    groups: NDArray[np.int64]
    missing: list[str]
    contradicted: list[str]

    @property
    def count(self) -> int:
        """Images with a label."""
        return int((self.labels >= 0).sum())

    @property
    def remarks(self) -> list[str]:
        """Sentences on what could not be used."""
        said = [alike] if (alike := alike_classes(self.class_names)) else []
        if self.missing:
            some = ", ".join(self.missing[:3]) + ", ..." * (len(self.missing) > 3)
            said.append(f"{plural(len(self.missing), 'row')} of the labels fit no image: {some}.")
        if self.contradicted:
            some = ", ".join(self.contradicted[:3]) + ", ..." * (len(self.contradicted) > 3)
            said.append(
                f"Left out: {plural(len(self.contradicted), 'image')} with two different labels, {some}."
            )
        return said


def read_label_file(file: str | Path) -> list[LabelRow]:
    """The rows of a table (.csv, .tsv) with a column ``label`` and one called ``digest`` or ``path``, or both; rows
    with an empty label are no labels, and are kept for their other cells.

    Raises: UsageError if it cannot be read, or has no such columns.
    """
    path = Path(file)
    try:
        rows = csv_rows(read_text(path))
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        reason = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        raise UsageError(f"{option('labels', path)} cannot be read ({reason}).") from error
    heads = [cell.strip().casefold() for cell in rows[0]] if rows else []
    label = next((heads.index(name) for name in LABEL_COLUMNS if name in heads), None)
    where = next((heads.index(name) for name in PATH_COLUMNS if name in heads), None)
    digest = heads.index(DIGEST) if DIGEST in heads else None
    if label is None or (where is None and digest is None):
        raise UsageError(
            f"{option('labels', path)} has the columns {', '.join(heads[:8]) or 'of an empty file'}; expected one "
            "called label, and one called path or digest."
        )
    others = [k for k, head in enumerate(heads) if k not in (label, where, digest) and head]
    found = []
    for row in rows[1:]:
        whole = [*row, *[""] * (len(heads) - len(row))]
        cells = [cell.strip() for cell in whole]
        found.append(
            LabelRow(
                cells[label],
                "" if where is None else whole[where],
                "" if digest is None else cells[digest].lower(),
                {heads[k]: cells[k] for k in others},
            )
        )
    return found


def write_label_file(file: str | Path, rows: Iterable[LabelRow]) -> None:
    """Write a table with the columns digest, label and path, and one for each other cell, in one step: it is there as a
    whole or not at all. :func:`read_label_file` reads back the same rows.

    Raises: RunError if it cannot be written.
    """
    rows = list(rows)
    more = list(dict.fromkeys(name for row in rows for name in row.cells))
    table = ([row.digest, row.label, row.path, *map(row.cells.get, more)] for row in rows)
    write_text(Path(file), csv_text([(DIGEST, "label", "path", *more), *table]))


def label_rows(
    source: Source, labels: Mapping[int, str], *, known: NDArray[np.int64] | None = None
) -> list[LabelRow]:
    """Rows of a file of labels for images of a source by their positions; `known`: the source's :func:`digests`."""
    known = digests(source) if known is None else known
    return [LabelRow(label, source.paths[i], hex_digest(known[i])) for i, label in sorted(labels.items())]


def hex_digest(row: NDArray[np.int64]) -> str:
    """A row of :func:`digests` in hexadecimal digits; empty for zeros, which no image has."""
    return row.tobytes().hex() if row.any() else ""


def match_labels(
    source: Source,
    rows: Sequence[LabelRow],
    *,
    group: str | None = None,
    known: NDArray[np.int64] | None = None,
) -> Labelled:
    """Labels of the images of a source by a file of labels: a label is of a picture's content, wherever it lies, and of
    all its copies.

    A row with a digest is of the images of this content; one with a path alone of the image at this path, which may
    be given from its last folders on, and of the images with its content.

    Args:
        group: a column; images with the same entry in it are a group.
        known: the source's :func:`digests`, where they are at hand.

    Raises: UsageError for a column that is not there, or a digest that is none.
    """
    if group is not None and not any(group.casefold() in row.cells for row in rows):
        heads = list(rows[0].cells) if rows else []
        raise UsageError(
            f"{option('group', group)}: the labels have no such column.{nearest(group.casefold(), heads)} They have "
            f"{', '.join(heads) or 'no row'}."
        )
    places_of = label_places(source, digests(source) if known is None else known)
    said: dict[int, set[str]] = {}
    grouped: dict[int, str] = {}
    missing = []
    for row in rows:
        places = places_of(row)
        if not places:
            missing.append(row.path or row.digest)
        for i in places:
            if row.label:
                said.setdefault(i, set()).add(row.label)
            if group is not None and (entry := row.cells.get(group.casefold(), "")):
                grouped.setdefault(i, entry)
    class_names = sorted({label for labels in said.values() for label in labels}, key=_natural)
    position = {name: k for k, name in enumerate(class_names)}
    labels, groups = (np.full(len(source), -1, np.int64) for _ in range(2))
    for i, found in said.items():
        if len(found) == 1:
            labels[i] = position[next(iter(found))]
    entries = {entry: k for k, entry in enumerate(dict.fromkeys(grouped.values()))}
    for i, entry in grouped.items():
        groups[i] = entries[entry]
    contradicted = [source.paths[i] for i, found in sorted(said.items()) if len(found) > 1]
    return Labelled(labels, class_names, groups, missing, contradicted)


def label_places(source: Source, known: NDArray[np.int64]) -> Callable[[LabelRow], list[int]]:
    """A function from a row of a file of labels to the positions of the images that it is of; `known`: the source's
    :func:`digests`. It raises UsageError for a digest that is none.
    """
    keys = [row.tobytes() if row.any() else f"image {i}".encode() for i, row in enumerate(known)]
    at = _places(source)
    of: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        of.setdefault(key, []).append(i)

    def places(row: LabelRow) -> list[int]:
        if row.digest:
            return of.get(_bytes(row.digest), [])
        return [k for i in at(row.path) for k in of[keys[i]]]

    return places


def _bytes(digest: str) -> bytes:
    try:
        found = bytes.fromhex(digest)
    except ValueError:
        found = b""
    if len(found) != DIGEST_BYTES:
        raise UsageError(
            f"the labels have '{digest}' as a {DIGEST}; expected {2 * DIGEST_BYTES} hexadecimal digits, as isosphere "
            "writes them: leave the column out to go by the path."
        )
    return found


def _places(source: Source) -> Callable[[str], list[int]]:
    """A function from a path to the positions of the images that it may be of."""
    exact: dict[str, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    for i, path in enumerate(source.paths):
        exact.setdefault(path, []).append(i)
        by_name.setdefault(PurePath(path).name, []).append(i)

    def find(path: str) -> list[int]:
        for name in (path, path.strip()):
            if name in exact:
                return exact[name]
        path = path.strip()
        parts = PurePath(path.replace("\\", "/")).parts
        near = []
        for i in by_name.get(parts[-1] if parts else "", []):
            origin = source.origin(i)
            if origin is not None and origin.is_file and Path(origin.file) == expanded(path).absolute():
                return [i]
            own = PurePath(source.paths[i]).parts
            shared = min(len(own), len(parts))
            if own[-shared:] == parts[-shared:]:
                near.append(i)
        return near if len(near) == 1 else []

    return find


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers by their value, then words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
