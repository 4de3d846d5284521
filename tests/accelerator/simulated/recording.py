"""What the device was asked to do, and what the program waited for."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.accelerator.simulated.device import backend

__all__ = ["Event", "Record", "Waiting", "no_waiting", "record", "without_float64"]

WAITS = ("item", "nonzero", "to host", "to device", "synchronize")
"""Kinds of events for which CUDA makes the program wait until the device has done all that it was given.

``item``: a number is read; ``nonzero``: an operator reads one itself, such as the size of its result; ``to host`` and
``to device``: a copy that is not ``non_blocking``, or is to memory of the host that is not pinned. Other kinds:
``copy``, one that is not waited for; ``float64``: an operator on more than one number of that type (slow on many GPUs,
refused by Apple's).
"""

_OWN = str(Path(__file__).parent)
_SKIPPED = ("/torch/", "/contextlib.py", "/functools.py", "<frozen")


@dataclass(frozen=True)
class Event:
    """One thing that happened: its kind (see ``WAITS``), the operator, bytes, details, and the lines of Python.

    These are innermost first, without those of torch.
    """

    kind: str
    operator: str
    bytes: int
    detail: str
    where: tuple[str, ...]

    def __str__(self) -> str:
        said = f" ({self.detail})" if self.detail else ""
        return f"{self.kind}: {self.operator}, {self.bytes:,} bytes{said}\n    " + "\n    ".join(self.where)


class Waiting(RuntimeError):  # noqa: N818
    """The program waited for the device where it was told not to."""


@dataclass
class Record:
    """All events of a block, also while it lasts."""

    events: list[Event] = field(default_factory=list)
    ended: dict[str, tuple[int, int]] | None = None

    @property
    def operators(self) -> dict[str, tuple[int, int]]:
        """Calls and bytes (read and written) by the name of the operator; a call is about one kernel launch."""
        return dict(backend.counts()) if self.ended is None else self.ended

    @property
    def waits(self) -> list[Event]:
        """Events for which the program stood still."""
        return [event for event in self.events if event.kind in WAITS]

    @property
    def doubles(self) -> list[Event]:
        """Operators on float64 tensors of more than one number."""
        return [event for event in self.events if event.kind == "float64"]

    @property
    def launches(self) -> int:
        """Operators that ran on the device: about as many kernels."""
        return sum(calls for calls, _ in self.operators.values())

    @property
    def bytes(self) -> int:
        """Bytes that these read and wrote, each operator by itself."""
        return sum(size for _, size in self.operators.values())

    def by_line(self, kind: str | None = None) -> Counter[tuple[str, str]]:
        """How often each innermost line caused an event of a kind (None: of those in ``waits``)."""
        chosen = self.waits if kind is None else [event for event in self.events if event.kind == kind]
        return Counter((event.kind, event.where[0] if event.where else "?") for event in chosen)

    def __str__(self) -> str:
        lines = [f"{self.launches} launches, {self.bytes:,} bytes, {len(self.waits)} waits"]
        lines += [f"  {count} x {kind} at {place}" for (kind, place), count in self.by_line().most_common()]
        return "\n".join(lines)


def _where(depth: int) -> tuple[str, ...]:
    frame, found = sys._getframe(1), []
    while frame is not None and len(found) < depth:
        file = frame.f_code.co_filename
        if not file.startswith(_OWN) and not any(part in file for part in _SKIPPED):
            found.append(f"{_short(file)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(found)


def _short(file: str) -> str:
    parts = Path(file).parts
    for anchor in ("src", "site-packages"):
        if anchor in parts:
            return "/".join(parts[parts.index(anchor) + 1 :])
    return "/".join(parts[-2:])


@contextmanager
def record(*, depth: int = 8, doubles: bool = False) -> Iterator[Record]:
    """Note what the device is asked to do within the block.

    Args:
        depth: lines of Python kept of each event. doubles: note operators on float64 too.
    """
    seen = Record()

    def note(kind: str, operator: str, size: int, detail: str) -> None:
        seen.events.append(Event(kind, operator, size, detail, _where(depth)))

    backend.listen(note)
    backend.count(True, doubles)
    try:
        yield seen
    finally:
        seen.ended = seen.operators
        backend.count(False, False)
        backend.listen(None)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise :class:`Waiting` where the program would wait for the device."""

    def refuse(kind: str, operator: str, size: int, detail: str) -> None:
        if kind in WAITS:
            raise Waiting(str(Event(kind, operator, size, detail, _where(8))))

    backend.listen(refuse)
    try:
        yield
    finally:
        backend.listen(None)


@contextmanager
def without_float64() -> Iterator[None]:
    """Refuse float64 tensors on the device, as Apple's GPUs do."""
    backend.refuse_doubles(True)
    try:
        yield
    finally:
        backend.refuse_doubles(False)
