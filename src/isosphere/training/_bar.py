"""A bar for long work that fits its line: per cent, time left and speed are always there, other figures if they fit."""

import time
from collections import deque
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

BAR = 10
_BESIDE = 5 + 1 + BAR + 1  # per cent, the bar, and blanks between them
_BETWEEN = "  "
_REMEMBERED = 30.0  # seconds over which a speed is measured
Seconds: TypeAlias = float


class Bar:
    """A bar on a terminal, that is gone when it is stopped. Its text is a line of items with two blanks between them:
    the last are left out where they do not fit.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            _PerCent(),
            BarColumn(BAR),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)

    def start(self) -> None:
        self._progress.start()

    def show(self, share: float | None, line: str) -> None:
        """Where the work stands, 0 to 1 (None: nobody knows), and what to say beside it."""
        text = fitted(line, self._console.width - _BESIDE)
        total = None if share is None else 1.0
        self._progress.update(self._task, total=total, completed=share or 0.0, description=text)

    def stop(self) -> None:
        self._progress.stop()


class _PerCent(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("     " if task.total is None else f"{int(task.percentage):3d} %")


def fitted(line: str, width: int) -> str:
    """As many items of a line as fit into so many columns; of one that is too long alone its beginning."""
    items = [item for item in line.split(_BETWEEN) if item]
    text = items[0][: max(0, width)] if items else ""
    for item in items[1:]:
        if len(text) + len(_BETWEEN) + len(item) > width:
            break
        text += _BETWEEN + item
    return text


class Pace:
    """How fast something goes, by what was done in the last half minute, without what was there at the beginning."""

    def __init__(self) -> None:
        self._seen: deque[tuple[Seconds, int]] = deque()

    def at(self, done: int, now: Seconds | None = None) -> float | None:
        """Note how many are done, and return how many are done in a second; None as long as nobody knows."""
        now = time.perf_counter() if now is None else now
        if self._seen and done < self._seen[-1][1]:  # another part of the work
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _REMEMBERED:
            self._seen.popleft()
        (begun, before), *_ = self._seen
        return (done - before) / (now - begun) if now > begun and done > before else None
