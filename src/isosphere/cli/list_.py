"""``isosphere list``: what there is to choose from."""

from enum import StrEnum
from typing import Annotated

import typer

from isosphere.cli.console import output_console, table
from isosphere.cli.listing import AsCsv, AsJson, check_form, print_list
from isosphere.errors import UsageError, nearest

__all__ = ["list_"]


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    discrepancies = "discrepancies"
    encoders = "encoders"
    datasets = "datasets"
    formats = "formats"
    tasks = "tasks"
    recipes = "recipes"
    presets = "presets"
    keys = "keys"


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"{', '.join(list(Kind)[:-1])} or {Kind.keys}.",
            show_default=False,
            autocompletion=lambda: list(Kind),
        ),
    ] = "",
    containing: Annotated[
        str, typer.Argument(metavar="TEXT", help="Only names that contain this.", show_default=False)
    ] = "",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """List methods, discrepancies, encoders, built-in data sets, formats of images, tasks of an evaluation, view
    recipes, presets or configuration keys.

    One plain row per item, its name first and a tab after it, when the output is not a terminal.
    """
    for_programs = check_form(as_json, as_csv)
    if kind not in list(Kind):
        got = (
            f"There is nothing called '{kind}' to list.{nearest(kind, Kind)}"
            if kind
            else "What is to be listed?"
        )
        raise UsageError(f"{got} Type isosphere list {'|'.join(Kind)}.")
    headings, every = _rows(Kind(kind))
    rows = [row for row in every if containing.lower() in row[0].lower()]
    if not rows:
        raise UsageError(f"No {kind} contain '{containing}'. Type isosphere list {kind} to see all.")
    console = output_console()
    if for_programs:
        made = [dict(zip(headings, row, strict=True)) for row in rows]
        print_list("", {}, made, as_json=as_json, as_csv=as_csv, facts={"kind": kind})
    elif console.is_terminal:
        table(console, kind, [heading.replace("_", " ") for heading in headings], [list(row) for row in rows])
        if kind == Kind.encoders and not containing:
            _print_first(every)
    else:
        for row in rows:
            typer.echo("\t".join(row).rstrip())


def _print_first(rows: list[tuple[str, ...]]) -> None:
    """The encoders to take first, below all others, where a terminal stands at the end."""
    from isosphere.models import FIRST_ENCODERS

    known = {row[0]: row for row in rows}
    first = [[*known[name], words] for name, words in FIRST_ENCODERS.items()]
    table(output_console(), "take first", ["name", "parameters", "image size", "speed", "for"], first)


def _rows(kind: Kind) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings, and a row an item."""
    about = ("name", "about")
    if kind is Kind.methods:
        from isosphere.methods import METHODS

        entries = sorted(METHODS.values(), key=lambda each: each.of is not None)  # aliases last
        rows = [(each.name, each.summary, each.paper, each.canonical) for each in entries]
        return ("name", "about", "paper", "same_as"), rows
    if kind is Kind.discrepancies:
        from isosphere.discrepancies import DISCREPANCIES

        return about, [(name, entry.summary) for name, entry in DISCREPANCIES.items()]
    if kind is Kind.encoders:
        from isosphere.models import encoder_facts

        return ("name", "parameters", "image_size", "speed"), [
            (
                each.name,
                "" if each.parameters is None else f"{each.parameters / 1e6:.1f} M",
                "" if each.image_size is None else f"{each.image_size} px",
                each.speed,
            )
            for each in encoder_facts()
        ]
    if kind is Kind.datasets:
        from isosphere.data import BUILTIN

        return about, list(BUILTIN.items())
    if kind is Kind.formats:
        from isosphere.data import FORMATS

        return about, [(each.name, each.about) for each in FORMATS]
    if kind is Kind.tasks:
        from isosphere.workflows import TASKS

        return about, [
            (name, f"{task.about}{' (needs labels)' * task.needs_labels}") for name, task in TASKS.items()
        ]
    if kind is Kind.recipes:
        from isosphere.data import RECIPES

        return about, [(name, _first_sentence(make.__doc__)) for name, make in RECIPES.items()]
    if kind is Kind.presets:
        from isosphere.training import presets

        return about, [(name, preset.about) for name, preset in presets().items()]
    from isosphere.training import describe_keys

    rows = describe_keys()
    return ("name", "default", "about"), [*rows]


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].rstrip(".")
