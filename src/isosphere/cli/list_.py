"""``isosphere list``: what there is to choose from."""

from enum import StrEnum
from typing import Annotated

import typer

from isosphere.cli.console import output_console, table
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
        str, typer.Argument(metavar="|".join(Kind), help="What to list.", show_default=False)
    ] = "",
    containing: Annotated[
        str, typer.Argument(metavar="[TEXT]", help="Only names that contain this.", show_default=False)
    ] = "",
) -> None:
    """List methods, discrepancies, encoders, built-in data sets, formats of images, tasks of an evaluation, view
    recipes, presets or configuration keys.

    One plain row per item, its name first and a tab after it, when the output is not a terminal.
    """
    if kind not in list(Kind):
        got = (
            f"There is nothing called '{kind}' to list.{nearest(kind, Kind)}"
            if kind
            else "What is to be listed?"
        )
        raise UsageError(f"{got} Type isosphere list {'|'.join(Kind)}.")
    rows = [row for row in _rows(Kind(kind)) if containing.lower() in row[0].lower()]
    if not rows:
        raise UsageError(f"No {kind} contain '{containing}'. Type isosphere list {kind} to see all.")
    console = output_console()
    if console.is_terminal:
        table(console, kind, ["name", *([""] * (len(rows[0]) - 1))], [list(row) for row in rows])
        return
    for row in rows:
        typer.echo("\t".join(row).rstrip())


def _rows(kind: Kind) -> list[tuple[str, ...]]:
    if kind is Kind.methods:
        from isosphere.methods import METHODS

        entries = sorted(METHODS.values(), key=lambda each: each.of is not None)  # aliases last
        return [(each.name, each.summary, each.paper, each.canonical) for each in entries]
    if kind is Kind.discrepancies:
        from isosphere.discrepancies import DISCREPANCIES

        return [(name, entry.summary) for name, entry in DISCREPANCIES.items()]
    if kind is Kind.encoders:
        from isosphere.models import encoder_names

        return [(name,) for name in encoder_names()]
    if kind is Kind.datasets:
        from isosphere.data import BUILTIN

        return list(BUILTIN.items())
    if kind is Kind.formats:
        from isosphere.data import FORMATS

        return [(each.name, each.about) for each in FORMATS]
    if kind is Kind.tasks:
        from isosphere.workflows import TASKS

        return [
            (name, f"{task.about}{' (needs labels)' * task.needs_labels}") for name, task in TASKS.items()
        ]
    if kind is Kind.recipes:
        from isosphere.data import RECIPES

        return [(name, _first_sentence(make.__doc__)) for name, make in RECIPES.items()]
    if kind is Kind.presets:
        from isosphere.training import presets

        return [(name, preset.about) for name, preset in presets().items()]
    from isosphere.training import describe_keys

    return describe_keys()


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].rstrip(".")
