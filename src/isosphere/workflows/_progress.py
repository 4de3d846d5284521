"""A bar for long work, where somebody is looking."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Callback: TypeAlias = Callable[[int, int], None]


def has_widgets() -> bool:
    """Whether a notebook can show a bar that moves."""
    return find_spec("ipywidgets") is not None


@contextmanager
def progress_bar(what: str, shown: bool | Callback = True) -> Iterator[Callback]:
    """Yield a callback ``(done, total)`` that moves a bar on standard error: on a terminal and in a notebook.

    `shown`: False for none, or a callback of one's own.
    """
    if not isinstance(shown, bool):
        yield shown
        return
    console = Console(stderr=True, highlight=False)
    if not shown or not (has_widgets() if console.is_jupyter else console.is_terminal):
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
