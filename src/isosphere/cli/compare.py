"""``isosphere compare``: which run, layer and number of passes suits some labels best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from isosphere.cli.console import error_console, output_console, paragraph
from isosphere.cli.labels import Group, Labels
from isosphere.cli.listing import AsCsv, AsJson, Columns, check_form, print_list
from isosphere.cli.options import NoCache, Seed

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Folders of runs, or timm:NAME[@FILE], a network as it is.",
            show_default=False,
        ),
    ],
    labels: Labels = None,
    data: Annotated[
        str | None,
        typer.Option("--in", metavar="DATA", help="The images.", show_default="those of the first run"),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Only this output; may be repeated.", show_default="all"),
    ] = None,
    passes: Annotated[
        list[int] | None,
        typer.Option(help="Only so many passes; may be repeated.", show_default="1 and 2"),
    ] = None,
    group: Group = None,
    seed: Seed = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    no_cache: NoCache = False,
) -> None:
    """Rank runs, layers and passes by a linear probe on your labels, with the networks they began with.

    isosphere compare runs/a runs/b --labels labels.csv

    All are judged on the same folds of the same images, and each is compared with the first by the interval of
    their paired difference. It is said where the labels cannot decide.
    """
    for_programs = check_form(as_json, as_csv)
    import isosphere
    from isosphere.workflows import PASSES

    found = isosphere.compare(
        runs,
        labels,
        data=data,
        layers=layer,
        passes=passes or PASSES,
        group=group,
        seed=seed or 0,
        cache=not no_cache,
    )
    rows = [each.as_dict() if for_programs else each.as_dict() | {"name": each.name} for each in found.ranks]
    columns: Columns = {
        "features": lambda row: str(row["name"]),
        "accuracy, %": lambda row: _interval(row, ("accuracy", "low", "high")),
        "behind, points": lambda row: _interval(row, ("behind", "behind_low", "behind_high")),
        "told apart": lambda row: "" if row["behind"] is None else "no" if row["tied"] else "yes",
    }
    facts = {"images": found.images, "groups": found.groups, "largest_class": found.largest}
    facts |= {"verdict": found.verdict, "enough": found.enough, "remarks": found.remarks}
    title = f"Linear probe on {found.images:,} labelled images; the largest class is {found.largest:.1%}"
    print_list(title, columns, rows, as_json=as_json, as_csv=as_csv, facts=facts)
    console = error_console() if for_programs else output_console()
    for remark in found.remarks:
        paragraph(console, remark, style="yellow")
    paragraph(console, found.verdict)


def _interval(row: Mapping[str, Any], keys: tuple[str, str, str]) -> str:
    value, low, high = (row[key] for key in keys)
    return "" if value is None else f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
