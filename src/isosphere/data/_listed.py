"""Image files that are listed one by one: by a pattern, in a text file or a table, in Python."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from isosphere.errors import UsageError, plural
from isosphere.reading import UnreadableError
from isosphere.tabular import csv_rows, padded

from ._braces import expand_braces
from ._encoded import EncodedSource
from ._folder import is_image_file, walk_folder
from ._home import expanded
from ._labels import labels_of_texts
from ._layout import arrange
from ._limits import read_file, read_text, reason_of
from ._source import Origin, Split

LISTS = (".txt", ".lst", ".csv", ".tsv")
"""Endings of files that list images."""

PATH_COLUMNS = (
    "path",
    "file",
    "filename",
    "file_name",
    "image",
    "image_path",
    "filepath",
    "file_path",
    "img",
)
LABEL_COLUMNS = ("label", "class", "category", "target", "y", "labels", "class_name")


class FileSource(EncodedSource):
    """Image files, each by its path.

    Args:
        files: paths. names: how they are shown; else as they are given.
        labels: a word or number for each, empty for none; else folders mean what they do in a folder of images.
    """

    def __init__(
        self,
        files: Sequence[str],
        *,
        name: str = "images",
        names: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        folders: bool = True,
        split: Split = None,
    ) -> None:
        shown = list(names or files)
        layout = arrange(shown, split, name) if folders and labels is None else None
        positions = range(len(files)) if layout is None else layout.positions
        self._files = [str(expanded(files[i]).absolute()) for i in positions]
        if layout is not None:
            facts = {
                "labels": layout.labels,
                "class_names": layout.class_names,
                "has_test_split": layout.has_test_split,
                "left_out": layout.left_out,
            }
        else:
            found, class_names = labels_of_texts(labels or [""] * len(files), None)
            facts = {"labels": found, "class_names": class_names}
        super().__init__(name, [shown[i] for i in positions], **facts)

    def body(self, i: int) -> bytes:
        return read_file(Path(self._files[i]))

    def origin(self, i: int) -> Origin:
        return Origin(self._files[i])


def open_pattern(pattern: str, *, split: Split = None) -> FileSource:
    """The images that wildcards and braces stand for, and those in folders that they stand for.

    Raises: UsageError if there are none.
    """
    files: list[str] = []
    for each in expand_braces(pattern):
        path = expanded(each)
        wild = any(c in each for c in "*?[")
        for found in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if wild else [path]:
            if found.is_dir():
                files += [f"{found}/{member}" for member in sorted(walk_folder(found).members)]
            elif is_image_file(found):
                files.append(str(found))
    files = list(dict.fromkeys(files))
    if not files:
        where = "" if PurePath(pattern).is_absolute() else f" in {Path.cwd()}"
        raise UsageError(f"{pattern} matches no image{where}: correct the pattern, or give the folder.")
    common = Path(os.path.commonpath([str(Path(file).parent) for file in files]))
    names = [PurePath(file).relative_to(common).as_posix() for file in files]
    return FileSource(files, name=common.resolve().name or pattern, names=names, split=split)


def open_list(file: Path, *, split: Split = None) -> FileSource:
    """The images that a file lists: a path a line, perhaps with a label behind it; or a table with columns such as
    ``path`` and ``label``. Relative paths start at the folder of the list, or else at the current one. Lines may hold
    bytes that are no text, as names of files do; a table is in UTF-8 (``isosphere.tabular``).

    Raises: UsageError if it lists something else, or nothing that is there.
    """
    is_table = file.suffix.lower() in (".csv", ".tsv")
    try:
        text = read_text(file, errors="strict" if is_table else "surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        raise UsageError(f"{file} cannot be read as a list of images ({reason}).") from error
    if "\0" in text:
        raise UsageError(
            f"{file} cannot be read as a list of images (it is not text in UTF-8; it holds null bytes)."
        )
    names, labels, note = _columns(file, text) if is_table else _lines(file, text)
    names = [_with_slashes(file, name) for name in names]
    files = [_placed(file, name) for name in names]
    if not any(os.path.exists(each) for each in files):  # noqa: PTH110  (for each of a million)
        first = f", first {names[0]}" if names else ""
        raise UsageError(
            f"{file} lists {plural(len(names), 'file')}, of which none is there{first}; expected paths of images, from "
            f"{file.absolute().parent} or from the current folder."
        )
    source = FileSource(files, name=file.stem, names=names, labels=_classes(file, labels), split=split)
    source.notes = (note,) if note else ()
    return source


def _placed(file: Path, name: str) -> str:
    here = expanded(_with_slashes(file, name))
    beside = file.parent / here
    return str(here if not _exists(beside) and _exists(here) else beside)


def _with_slashes(file: Path, name: str) -> str:
    """A path as Windows writes it, for here; as it is where that leads somewhere."""
    if "\\" not in name or _exists(file.parent / expanded(name)) or _exists(expanded(name)):
        return name
    return name.replace("\\", "/")


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  (of a name that is too long, False)


def _lines(file: Path, text: str) -> tuple[list[str], list[str] | None, str]:
    every = re.split("\r\n|\r|\n", text)
    lines = [_blanks(file, line) for line in every if line.strip() and not line.startswith("#")]
    if any(_exists(Path(_placed(file, line))) for line in lines):
        return lines, None, ""
    for separator in (None, ","):
        pairs = [[part.strip() for part in line.rsplit(separator, 1)] for line in lines]
        if all(len(pair) == 2 for pair in pairs) and any(_exists(Path(_placed(file, p[0]))) for p in pairs):
            return [pair[0] for pair in pairs], [pair[1] for pair in pairs], ""
    return lines, None, ""


def _blanks(file: Path, name: str) -> str:
    """A name without blanks at its ends, unless a file is called so."""
    short = name.strip()
    return name if short != name and _exists(Path(_placed(file, name))) else short


def label_column(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    """Which column holds the labels, by headings in small letters; of whole numbers and of names the names."""
    named = [name for name in LABEL_COLUMNS if name in heads and not (name == "y" and "x" in heads)]
    found = [heads.index(name) for name in named]
    for k in found:
        if not all(re.fullmatch(r"-?\d+", row[k].strip()) for row in rows if row[k].strip()):
            return k
    return found[0] if found else None


def _columns(file: Path, text: str) -> tuple[list[str], list[str] | None, str]:
    try:
        rows = csv_rows(text)
    except UnreadableError as error:
        raise UsageError(
            f"{file} cannot be read as a table ({error}); expected a path a row, perhaps with a label: look for a "
            "quotation mark that is not closed."
        ) from error
    heads = [cell.strip().casefold() for cell in rows[0]] if rows else []
    path = next((heads.index(name) for name in PATH_COLUMNS if name in heads), None)
    cells = padded(rows, len(heads))
    label = label_column(heads, cells[1:])
    if path is None:
        if not heads or not Path(_placed(file, rows[0][0].strip())).is_file():
            raise UsageError(
                f"{file} has the columns {', '.join(heads[:8]) or 'of an empty file'}; expected one called path (or "
                "file, image), and perhaps one called label (or class)."
            )
        path, label = 0, 1 if len(heads) == 2 else None
        heads = [f"{k}" for k in range(1, 1 + len(heads))]
    else:
        cells = cells[1:]
    names = [_blanks(file, row[path]) for row in cells]
    taken = "none as the label" if label is None else f"column {heads[label]} as the label"
    note = f"Of {file.name} column {heads[path]} is taken as the path, {taken}." if len(heads) > 2 else ""
    return names, None if label is None else [row[label].strip() for row in cells], note


def _classes(file: Path, labels: list[str] | None) -> list[str] | None:
    """Labels as classes: 1.0 is 1. Raises: UsageError for measured values, of which each would be a class."""
    try:
        values = [float(label) for label in labels or () if label]
    except ValueError:
        return labels
    odd = next((value for value in values if not value.is_integer()), None)
    if odd is not None:
        raise UsageError(
            f"{file} has a label of {odd:g}, and labels are classes; expected a whole number or a word for each image. "
            "Give the column another name to have it left alone."
        )
    return labels and [re.sub(r"\.0*$", "", label) for label in labels]
