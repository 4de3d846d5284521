"""Files of labels: a table of pictures, each known by its content or its path, with a word for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isosphere.atomic import write_text
from isosphere.errors import UsageError, nearest, option, plural
from isosphere.reading import UnreadableError
from isosphere.tabular import csv_rows, csv_text, padded

from ._home import expanded
from ._images import digests
from ._labels import alike_classes
from ._limits import read_text, reason_of
from ._listed import PATH_COLUMNS, label_column
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


class LabelTable:
    """A table (.csv, .tsv) with a column of labels and one called ``digest`` or ``path``, or both; every cell is kept
    as it is, also of columns that mean nothing here.

    Of numbers in ``label`` beside names in another such column (as ``embed`` writes them) the names are the labels.
    """

    def __init__(
        self, heads: list[str], rows: list[list[str]], label: int, where: int | None, digest: int | None
    ) -> None:
        self.heads, self.rows = heads, rows
        self.label, self.where, self.digest = label, where, digest

    @classmethod
    def empty(cls) -> "LabelTable":
        """With the columns digest, label and path, and no row."""
        return cls([DIGEST, "label", "path"], [], 1, 2, 0)

    @classmethod
    def read(cls, file: str | Path) -> "LabelTable":
        """Raises: UsageError if the file cannot be read, or has no such columns."""
        path = Path(file)
        try:
            rows = csv_rows(read_text(path))
        except (OSError, UnicodeDecodeError, UnreadableError) as error:
            reason = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else reason_of(error)
            raise UsageError(f"{option('labels', path)} cannot be read ({reason}).") from error
        heads, body = (rows[0], rows[1:]) if rows else ([], [])
        names = [cell.strip().casefold() for cell in heads]
        body = padded(body, len(heads))
        label = label_column(names, body)
        where = next((names.index(name) for name in PATH_COLUMNS if name in names), None)
        digest = names.index(DIGEST) if DIGEST in names else None
        if label is None or (where is None and digest is None):
            raise UsageError(
                f"{option('labels', path)} has the columns {', '.join(names[:8]) or 'of an empty file'}; expected one "
                "called label, and one called path or digest."
            )
        return cls(heads, body, label, where, digest)

    def label_row(self, cells: Sequence[str]) -> LabelRow:
        """What a row says."""
        mine = (self.label, self.where, self.digest)
        others = {head.strip().casefold(): k for k, head in enumerate(self.heads) if k not in mine}
        return LabelRow(
            cells[self.label].strip(),
            "" if self.where is None else cells[self.where],
            "" if self.digest is None else cells[self.digest].strip().lower(),
            {name: cells[k].strip() for name, k in others.items() if name},
        )

    def put(self, chosen: Mapping[str, LabelRow], key_of: Callable[[LabelRow], str | None]) -> None:
        """Give these labels, each by its key, in place of those that rows of the same key have, or in new rows; an
        empty one takes the label back, and a row that held nothing else goes. `key_of`: of a row that is to change.
        """
        self._have("digest")
        if any(not row.digest for row in chosen.values()):
            self._have("where")
        left, kept = dict(chosen), []
        for cells in self.rows:
            key = key_of(self.label_row(cells))
            if key is not None:
                left.pop(key, None)
                self._say(cells, chosen[key])
                if not chosen[key].label and not self._holds_more(cells):
                    continue
            kept.append(cells)
        for row in left.values():
            if row.label:
                cells = [""] * len(self.heads)
                if self.where is not None:
                    cells[self.where] = row.path
                self._say(cells, row)
                kept.append(cells)
        self.rows = kept

    def write(self, file: str | Path) -> None:
        """Write it in one step: it is there as a whole or not at all. Raises: RunError if it cannot be written."""
        write_text(Path(file), csv_text([self.heads, *self.rows]))

    def _say(self, cells: list[str], row: LabelRow) -> None:
        assert self.digest is not None
        cells[self.label], cells[self.digest] = row.label, row.digest

    def _holds_more(self, cells: Sequence[str]) -> bool:
        mine = (self.label, self.where, self.digest)
        return any(cell.strip() for k, cell in enumerate(cells) if k not in mine)

    def _have(self, column: Literal["digest", "where"]) -> None:
        """Begin with a column that was not there: a row may be longer than the heading."""
        if getattr(self, column) is not None:
            return
        for cells, first in (
            (self.heads, DIGEST if column == "digest" else "path"),
            *((c, "") for c in self.rows),
        ):
            cells.insert(0, first)
        for name in ("label", "where", "digest"):
            place = getattr(self, name)
            setattr(self, name, 0 if name == column else None if place is None else place + 1)


def read_label_file(file: str | Path) -> list[LabelRow]:
    """The rows of a :class:`LabelTable`; those with an empty label are no labels, and are kept for their other cells.

    Raises: UsageError if it cannot be read, or has no such columns.
    """
    table = LabelTable.read(file)
    return [table.label_row(cells) for cells in table.rows]


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
