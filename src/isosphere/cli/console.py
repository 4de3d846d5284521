"""Where the commands write, and the few shapes in which they write."""

import json
import re
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from isosphere.errors import printable

__all__ = [
    "commands",
    "error_console",
    "facts",
    "output_console",
    "paragraph",
    "print_json",
    "text",
    "table",
]


def output_console() -> Console:
    """Standard output; rows are never cut where it is not a terminal."""
    return Console(highlight=False)


def error_console() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def text(words: str, style: str = "", *, lines: bool = False) -> Text:
    """Words as a console may show them, whatever they hold: all that the commands print passes here."""
    return Text(printable(words, lines=lines), style=style)


def print_json(value: Any) -> None:
    """A value as JSON on standard output; it reads back as it was, and a terminal can be shown it."""
    typer.echo(printable(json.dumps(value, ensure_ascii=False, indent=2), lines=True))


def paragraph(console: Console, words: str, style: str = "") -> None:
    """One paragraph: wrapped on a terminal, a single line elsewhere."""
    console.print(text(words, style), soft_wrap=not console.is_terminal)


def facts(console: Console, values: Mapping[str, str]) -> None:
    """Names and what there is to say about them, aligned."""
    if not console.is_terminal:
        width = max((len(name) for name in values), default=0)
        for name, value in values.items():
            console.print(text(f"{name:<{width}}  {value}"), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in values.items():
        grid.add_row(text(name), text(value))
    console.print(grid)


_NAME, _WORDS = 20, 14  # columns that the names of rows, and other words, have at the least
_NUMBER = re.compile(r"[-+]?\d|\u2013$|undefined$|$")


def table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on a terminal, words wrapped and nothing cut; elsewhere the same as aligned plain lines, of which words
    alone may be longer than 80 columns. Numbers stand to the right.
    """
    shown = [[printable(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    numbers = [i > 0 and all(_NUMBER.match(row[i]) for row in shown[1:]) for i in range(len(columns))]
    groups = _groups(widths, numbers, console.width)
    if console.is_terminal:
        for k, group in enumerate(groups):
            made = Table(
                title=text(title) if k == 0 else None,
                title_justify="left",
                title_style="bold",
                show_edge=False,
                pad_edge=False,
            )
            beside = sum(3 + (widths[i] if numbers[i] else min(widths[i], _WORDS)) for i in group[1:])
            for i in group:
                made.add_column(
                    columns[i],
                    justify="right" if numbers[i] else "left",
                    no_wrap=numbers[i] or (i == 0 and widths[0] + beside <= console.width),
                    overflow="fold",
                )
            for row in rows:
                made.add_row(*(text(row[i]) for i in group))
            console.print(made)
        return
    console.print(text(title), soft_wrap=True)
    for group in groups:
        for row in shown:
            cells = [f"{row[i]:>{widths[i]}}" if numbers[i] else f"{row[i]:<{widths[i]}}" for i in group]
            console.print(text("  " + "  ".join(cells).rstrip()), soft_wrap=True)


def _groups(widths: list[int], numbers: list[bool], width: int) -> list[list[int]]:
    """Columns that fit beside each other, the first of all in each group: a number is never cut."""
    groups, used = [[0]], min(widths[0], _NAME)
    for i in range(1, len(widths)):
        takes = 3 + (widths[i] if numbers[i] else min(widths[i], _WORDS))
        if used + takes > width and len(groups[-1]) > 1:
            groups, used = [*groups, [0]], min(widths[0], _NAME)
        groups[-1].append(i)
        used += takes
    return groups


def commands(console: Console, values: Mapping[str, str]) -> None:
    """What to type, on one line each, so that it can be copied also where the terminal is narrow."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        line = text(f"{name:<{width}}  ", "bold" if console.is_terminal else "")
        console.print(line.append(printable(value), style="not bold"), soft_wrap=True)
