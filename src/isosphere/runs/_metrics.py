"""metrics.csv: one row a logging period, appended as the run goes, cut back when a run resumes."""

from collections.abc import Mapping
from pathlib import Path

from isosphere.atomic import append_text, write_text
from isosphere.errors import RunError
from isosphere.reading import UnreadableError, read_text
from isosphere.tabular import csv_rows, csv_text

Cell = int | float | str


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file as text by column; an absent cell is an empty string.

    A last line that a kill cut short is left out (the file is read while it is being written), as is a damaged one.
    """
    if not path.exists():
        return []
    try:
        text = read_text(path, errors="replace").replace("\0", "")
        rows = csv_rows(text[: text.rfind("\n") + 1], strict=False)
    except UnreadableError as error:
        raise RunError(f"{path} cannot be read: {error}. Move it away: nothing else depends on it.") from None
    header, *rows = rows or [[]]
    made = (dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header))
    return [row for row in made if _is_sound(row)]


def _is_sound(row: Mapping[str, str]) -> bool:
    """Whether the columns that every row has hold numbers."""
    try:
        counts = [int(row[name]) for name in ("step", "epoch") if row.get(name)]
        sizes = [float(row[name]) for name in ("seconds", "images_per_second") if row.get(name)]
    except ValueError:
        return False
    return all(number >= 0 for number in (*counts, *sizes))


class MetricsFile:
    """Appends rows to a CSV file; a column that comes late is added to the header and left empty above."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = read_metrics(path)
        self._columns: list[str] = list(rows[0]) if rows else []

    def append(self, row: Mapping[str, Cell]) -> None:
        """Add one row, and hand it to the system at once, so that a killed run keeps it."""
        new = [name for name in row if name not in self._columns]
        if new or not self.path.exists():
            rows = read_metrics(self.path)
            self._columns += new
            self._rewrite(rows)
        append_text(self.path, csv_text([[_text(row.get(name, "")) for name in self._columns]]))

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`: a resumed run writes them again."""
        rows = [row for row in read_metrics(self.path) if row.get("step") and int(row["step"]) <= step]
        self._columns = list(rows[0]) if rows else []
        if rows:
            self._rewrite(rows)
        else:
            self.path.unlink(missing_ok=True)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        write_text(
            self.path,
            csv_text([self._columns, *([row.get(name, "") for name in self._columns] for row in rows)]),
        )


def _text(cell: Cell) -> str:
    """Seven digits say all that a float32 loss holds; integers and words are kept as they are."""
    return f"{cell:.7g}" if isinstance(cell, float) else str(cell)
