"""How far long work is: a bar where somebody is looking, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from isosphere.training import Bar, Pace, duration

Callback: TypeAlias = Callable[[int, int], None]

PAUSE = 30.0
"""Seconds between two lines where there is no terminal, and a tenth of the time that the work has taken."""
_PAINT = 0.1  # seconds between two changes of a bar


def has_widgets() -> bool:
    """Whether a notebook can show a bar that moves."""
    return find_spec("ipywidgets") is not None


@contextmanager
def progress_bar(what: str, shown: bool | Callback = True, *, of: str = "images") -> Iterator[Callback]:
    """Yield a callback ``(done, total)`` that moves a bar on standard error, on a terminal and in a notebook; elsewhere
    it writes a line there every half minute, so that short work is silent.

    `shown`: False for none, or a callback of one's own. `of`: what is counted.
    """
    if not isinstance(shown, bool):
        yield shown
        return
    if not shown:
        yield lambda done, total: None
        return
    console = Console(stderr=True, highlight=False)
    if not (has_widgets() if console.is_jupyter else console.is_terminal):
        yield _lines(console, what, of)
        return
    bar = Bar(console)
    bar.show(None, what)
    bar.start()
    try:
        yield _moves(bar, what, of)
    finally:
        bar.stop()


def _moves(bar: Bar, what: str, of: str) -> Callback:
    pace, painted = Pace(), 0.0

    def move(done: int, total: int) -> None:
        nonlocal painted
        speed, now = pace.at(done), time.perf_counter()
        if now - painted < _PAINT and done < total:
            return
        painted = now
        items = [*_items(done, total, speed, of), what, f"{done:,}/{total:,}"]
        bar.show(done / max(1, total), "  ".join(items))

    return move


def _lines(console: Console, what: str, of: str) -> Callback:
    pace, begun = Pace(), time.perf_counter()
    last = begun

    def move(done: int, total: int) -> None:
        nonlocal last
        speed, now = pace.at(done), time.perf_counter()
        if now - last < max(PAUSE, (now - begun) / 10) or done >= total:
            return
        last = now
        items = [
            f"{done / max(1, total):.0%}",
            *_items(done, total, speed, of),
            f"{done:,} of {total:,} {of}",
        ]
        console.print(Text(f"{what}: {', '.join(items)}"), soft_wrap=True)

    return move


def _items(done: int, total: int, speed: float | None, of: str) -> list[str]:
    """Time left and speed, as far as they are known."""
    if not speed:
        return []
    return [
        f"{duration((total - done) / speed)} left",
        f"{speed:,.3g} {of}/s" if speed < 100 else f"{speed:,.0f} {of}/s",
    ]
