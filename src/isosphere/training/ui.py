"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere, and always a log file."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from isosphere.atomic import explain_failed_writes

__all__ = ["ConsoleReporter", "Reporter", "SilentReporter", "duration", "loss_line"]


class Reporter(Protocol):
    """What `fit` tells while it runs."""

    def say(self, text: str, *, warning: bool = False) -> None:
        """One sentence that stays on the screen and in the log."""
        ...

    def step(self, progress: float, line: str) -> None:
        """Where the run stands, after a step: shown, not kept."""
        ...

    def row(self, line: str) -> None:
        """The figures of an epoch, kept."""
        ...

    def close(self) -> None:
        """Take the progress bar down."""
        ...


class SilentReporter:
    """Says nothing: for library use and for ranks other than the first."""

    def say(self, text: str, *, warning: bool = False) -> None: ...

    def step(self, progress: float, line: str) -> None: ...

    def row(self, line: str) -> None: ...

    def close(self) -> None: ...


class ConsoleReporter:
    """Writes to a rich console, and to train.log without colours.

    On a terminal: a bar with loss parts, images/s and remaining time. Elsewhere: a line for an epoch, but not
    more often than every `quiet` seconds, so that a run of a thousand short epochs does not fill a log.
    """

    def __init__(self, console: Console, log: Path | None = None, *, quiet: float = 10.0) -> None:
        self.console = console
        self._log = log
        self._quiet = quiet
        self._last_line = -float("inf")
        self._held: str | None = None
        self._last_paint = 0.0
        self._bar: Progress | None = None
        self._task = None

    def say(self, text: str, *, warning: bool = False) -> None:
        self.note(text)
        self.console.print(
            Text(text, style="yellow" if warning else ""), soft_wrap=not self.console.is_terminal
        )

    def step(self, progress: float, line: str) -> None:
        now = time.perf_counter()
        if not self.console.is_terminal or now - self._last_paint < 0.1:
            return
        self._last_paint = now
        if self._bar is None:
            self._bar = Progress(
                TaskProgressColumn(),
                BarColumn(bar_width=10),
                TextColumn("{task.description}", markup=False),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0)
        self._bar.update(self._task, completed=progress, description=line)  # type: ignore[arg-type]

    def row(self, line: str) -> None:
        self.note(line)
        now = time.perf_counter()
        if not self.console.is_terminal and now - self._last_line < self._quiet:
            self._held = line
            return
        self._last_line, self._held = now, None
        if not self.console.is_terminal:
            self.console.print(Text(line), soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._held is not None:
            self.console.print(Text(self._held), soft_wrap=True)
            self._held = None

    def note(self, text: str) -> None:
        """A line of the log alone."""
        if self._log is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            with explain_failed_writes(self._log), self._log.open("a", encoding="utf-8") as log:
                log.write(f"{stamp}  {text}\n")


def loss_line(parts: Mapping[str, float]) -> str:
    """The loss and its parts on one line, four digits each."""
    return "  ".join(f"{name} {value:.4g}" for name, value in parts.items())


def duration(seconds: float) -> str:
    """Seconds in the unit a person would choose: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
