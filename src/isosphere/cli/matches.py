"""The images that a search has found, as tables, JSON or CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isosphere.cli.console import output_console, print_json, table
from isosphere.cli.listing import print_csv
from isosphere.errors import plural

if TYPE_CHECKING:
    from isosphere.deploy import Match

__all__ = ["say_matches"]


def say_matches(
    names: Sequence[str],
    found: "list[list[Match]]",
    facts: dict[str, Any],
    note: str,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Print what was found for each query: as a table, JSON, with `facts` of the search, or CSV."""
    if as_json:
        answers = [
            {"query": name, **facts, "matches": [m.as_dict() for m in each]}
            for name, each in zip(names, found, strict=True)
        ]
        print_json(answers if len(answers) > 1 else answers[0])
        return
    pairs = list(zip(names, found, strict=True))
    if as_csv:
        print_csv(
            [
                {"query": name, "rank": rank, **match.as_dict()}
                for name, each in pairs
                for rank, match in enumerate(each, 1)
            ]
        )
        return
    for name, matches in pairs:
        _print(f"Like {Path(name).name} among {note}, by layer {facts['layer']}", matches)
        note = plural(facts["images"], "image")  # what was done to have the index is said once


def _print(title: str, found: "list[Match]") -> None:
    columns: dict[str, list[str]] = {
        "rank": [str(i) for i in range(1, len(found) + 1)],
        "cosine": [f"{m.similarity:.4f}" for m in found],
        "uncertainty": [f"{m.uncertainty:.4f}" for m in found if m.uncertainty is not None],
        "remark": ["itself" if m.itself else "" for m in found],
        "class": [m.label or "" for m in found],
        "image": [m.path for m in found],
    }
    shown = {name: column for name, column in columns.items() if any(column)}
    table(output_console(), title, [*shown], [list(row) for row in zip(*shown.values(), strict=True)])
