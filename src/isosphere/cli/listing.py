"""Lists as people read them, and as programs do: a table, ``--json``, ``--csv``."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from isosphere.cli.console import output_console, paragraph, print_json, table
from isosphere.errors import UsageError, option, printable
from isosphere.tabular import csv_text

__all__ = ["AsCsv", "AsJson", "Columns", "check_form", "fixed", "print_csv", "print_list"]

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv: TypeAlias = Annotated[bool, typer.Option("--csv", help="Print a table for programs.")]
Columns: TypeAlias = Mapping[str, Callable[[Mapping[str, Any]], str]]
"""Headings of a table, and what stands below them of a row."""


def check_form(as_json: bool, as_csv: bool) -> bool:
    """Whether a program is to read it. Raises: UsageError if both are asked for."""
    if as_json and as_csv:
        raise UsageError(f"{option('json', True)} and {option('csv', True)}: give one of them.")
    return as_json or as_csv


def print_list(
    title: str,
    columns: Columns,
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool = False,
    as_csv: bool = False,
    facts: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> None:
    """Print rows, all with the same keys: a table of so many, or all for a program, in JSON beside the facts."""
    if as_json:
        print_json({**(facts or {}), "rows": [_plain(row) for row in rows]})
    elif as_csv:
        print_csv(rows)
    else:
        shown = rows if limit is None else rows[:limit]
        cells = [[cell(row) for cell in columns.values()] for row in shown]
        table(output_console(), title, list(columns), cells)
        if len(shown) < len(rows):
            paragraph(
                output_console(), f"The first {len(shown)} of {len(rows):,} are listed: --csv prints all."
            )


def print_csv(rows: Sequence[Mapping[str, Any]], heads: Sequence[str] = ()) -> None:
    """Rows as CSV on standard output, below their keys, where there is no row `heads`; what is not known is an empty
    cell. A file or a program is given every name as it is; a terminal, what it can be shown.
    """
    text = csv_text([[*(rows[0] if rows else heads)], *(_plain(row).values() for row in rows)])
    # In colour, since else the escape sequences of terminals are taken out of names.
    typer.echo(printable(text, lines=True) if sys.stdout.isatty() else text, nl=False, color=True)


def fixed(key: str, digits: int = 4) -> Callable[[Mapping[str, Any]], str]:
    """A number of a row with so many digits after the point; empty where there is none."""

    def cell(row: Mapping[str, Any]) -> str:
        value = row[key]
        return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"

    return cell


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values for programs: six digits, and None for what is not a number."""
    found = {}
    for key, value in row.items():
        if isinstance(value, float):
            value = None if math.isnan(value) else round(value, 6)
        found[key] = value
    return found
