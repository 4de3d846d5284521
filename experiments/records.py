"""Results that grow over many calls: one CSV file, one row a measurement, its provenance beside it."""

import csv
import platform
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from isosphere.training import bf16_is_fast

__all__ = ["PROTOCOL", "PROVENANCE", "Table", "machine", "newest", "older", "provenance"]

PROVENANCE = ("commit", "machine", "torch")
PROTOCOL = "2"
"""By which trained encoders are judged: 2, ``isosphere.evaluate``; 1, of rows that do not say, the experiments' own."""
_OLDER = "the older protocol (views of seed 12345, WCCN from all training images at shrinkage .01, collapse above .98)"


def provenance() -> dict[str, str]:
    """Commit of the code (``+`` where code has changes), :func:`machine`, torch."""
    commit = _git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ":/*.py", ":/*.yaml").returncode == 1
    return {"commit": commit + "+" * changed, "machine": machine(), "torch": torch.__version__}


def machine(device: str | torch.device | None = None) -> str:
    """The accelerator or the processor, with threads; by default that which torch would take.

    A processor that only emulates bfloat16 says so: there networks are trained in float32.
    """
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    processor = platform.machine() + ("" if bf16_is_fast(torch.device("cpu")) else " (float32)")
    name = torch.cuda.get_device_name() if kind == "cuda" else processor
    return f"{name} {torch.get_num_threads()} thread(s)"


def _git(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *command], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )


def protocol(row: Mapping[str, str]) -> str:
    """The protocol of a row; rows from before there were two do not say."""
    return row.get("protocol") or "1"


def newest(rows: Iterable[dict[str, str]], cell: Sequence[str]) -> list[dict[str, str]]:
    """The rows of each cell, known by these columns, by the latest protocol that it has: two are never averaged."""
    every = list(rows)
    cells = [tuple(row.get(name, "") for name in cell) for row in every]
    latest: dict[tuple[str, ...], str] = {}
    for key, row in zip(cells, every, strict=True):
        latest[key] = max(latest.get(key, ""), protocol(row))
    return [row for key, row in zip(cells, every, strict=True) if protocol(row) == latest[key]]


def older(rows: Collection[Mapping[str, str]], command: str) -> str:
    """A line for beneath a table with rows of the older protocol; empty where there are none."""
    found = sum(protocol(row) != PROTOCOL for row in rows)
    some = f"{found} of {len(rows)} rows are as" if found < len(rows) else "As"
    return f"{some} of {_OLDER}; run again: `{command}`." if found else ""


class Table:
    """A CSV file whose rows are known by their ``key`` columns; a row is on disk as soon as it is appended.

    ``judged``: the rows judge trained encoders. They say by which protocol, and one by an older protocol counts as
    missing.
    """

    def __init__(self, path: Path, key: Sequence[str], values: Sequence[str], *, judged: bool = False):
        self.path, self.key, self.judged = path, tuple(key), judged
        self.columns = [*key, *values, *PROVENANCE, *(["protocol"] if judged else [])]
        self.rows = self._read()
        self._known = {self._key(row) for row in self.rows if not judged or protocol(row) == PROTOCOL}

    def __contains__(self, row: Mapping[str, Any]) -> bool:
        return self._key(row) in self._known

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter(self.rows)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row, provenance added; raises KeyError for a column that the table does not have."""
        if strange := set(row) - set(self.columns):
            raise KeyError(f"no column {sorted(strange)} in {self.path.name}: it has {self.columns}")
        by = {"protocol": PROTOCOL} if self.judged else {}
        full = {name: str(value) for name, value in (provenance() | by | dict(row)).items()}
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
