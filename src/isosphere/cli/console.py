"""Where the commands write, and the few shapes in which they write."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "commands",
    "error_console",
    "facts",
    "output_console",
    "paragraph",
    "table",
]


def output_console() -> Console:
    """Standard output; rows are never cut where it is not a terminal."""
    return Console(highlight=False)


def error_console() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def paragraph(console: Console, text: str, style: str = "") -> None:
    """One paragraph: wrapped on a terminal, a single line elsewhere."""
    console.print(Text(text, style=style), soft_wrap=not console.is_terminal)


def facts(console: Console, values: Mapping[str, str]) -> None:
    """Names and what there is to say about them, aligned."""
    if not console.is_terminal:
        width = max((len(name) for name in values), default=0)
        for name, value in values.items():
            console.print(Text(f"{name:<{width}}  {value}"), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in values.items():
        grid.add_row(Text(name), Text(value))
    console.print(grid)


def table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on a terminal; elsewhere the same as aligned plain lines."""
    if console.is_terminal:
        made = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
        for i, column in enumerate(columns):
            made.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
        for row in rows:
            made.add_row(*(Text(cell) for cell in row))
        console.print(made)
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    console.print(Text(title), soft_wrap=True)
    for row in [columns, *rows]:
        cells = [
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        console.print(Text("  " + "  ".join(cells).rstrip()), soft_wrap=True)


def commands(console: Console, values: Mapping[str, str]) -> None:
    """What to type, on one line each, so that it can be copied also where the terminal is narrow."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        line = Text(f"{name:<{width}}  ", style="bold") if console.is_terminal else Text(f"{name:<{width}}  ")
        console.print(line.append(value, style="not bold"), soft_wrap=True)
