"""Results that grow over many calls: one CSV file, one row a measurement, its provenance beside it."""

import csv
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from isosphere.training import bf16_is_fast

__all__ = ["PROVENANCE", "Table", "provenance"]

PROVENANCE = ("commit", "machine", "torch")


def provenance() -> dict[str, str]:
    """Commit of the code (``+`` where code has changes), processor or accelerator with threads, torch.

    A processor that only emulates bfloat16 says so: there networks are trained in float32.
    """
    commit = _git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ":/*.py", ":/*.yaml").returncode == 1
    processor = platform.machine() + ("" if bf16_is_fast(torch.device("cpu")) else " (float32)")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor
    return {
        "commit": commit + "+" * changed,
        "machine": f"{device} {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
    }


def _git(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *command], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )


class Table:
    """A CSV file whose rows are known by their ``key`` columns; a row is on disk as soon as it is appended."""

    def __init__(self, path: Path, key: Sequence[str], values: Sequence[str]):
        self.path, self.key = path, tuple(key)
        self.columns = [*key, *values, *PROVENANCE]
        self.rows = self._read()
        self._known = {self._key(row) for row in self.rows}

    def __contains__(self, row: Mapping[str, Any]) -> bool:
        return self._key(row) in self._known

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter(self.rows)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row, provenance added; raises KeyError for a column that the table does not have."""
        if strange := set(row) - set(self.columns):
            raise KeyError(f"no column {sorted(strange)} in {self.path.name}: it has {self.columns}")
        full = {name: str(value) for name, value in (provenance() | dict(row)).items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or self._header() != self.columns:  # new, or of fewer columns
            self._write(self._read())  # as they are now: another process may have added to them
        with self.path.open("a", newline="") as file:
            self._writer(file).writerow(full)
        self.rows.append(full)
        self._known.add(self._key(full))

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _header(self) -> list[str]:
        with self.path.open(newline="") as file:
            return next(csv.reader(file), [])

    def _write(self, rows: list[dict[str, str]]) -> None:
        """The whole table with today's columns, in place of what was there."""
        beside = self.path.with_suffix(".new")
        with beside.open("w", newline="") as file:
            writer = self._writer(file)
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(self.path)

    def _writer(self, file: IO[str]) -> csv.DictWriter:
        return csv.DictWriter(file, self.columns, restval="", lineterminator="\n")

    def _key(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)
