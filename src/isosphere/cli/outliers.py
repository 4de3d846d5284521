"""``isosphere outliers``: the images that are least like the others."""

from dataclasses import asdict
from typing import Annotated

import typer

from isosphere.cli.listing import AsCsv, AsJson, Columns, check_form, fixed, print_list
from isosphere.cli.lists import OwnData, facts_of, opened, say_of, without
from isosphere.cli.options import SEARCH_LAYER, NoCache, Passes, Run

__all__ = ["outliers"]


def outliers(
    run: Run,
    data: OwnData = None,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, help="How many to list.", show_default="20, or fewer of few images"),
    ] = None,
    layer: SEARCH_LAYER = None,
    passes: Passes = 1,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    no_cache: NoCache = False,
) -> None:
    """List the images that are least like the others: damaged, wrongly sorted or rare ones.

    isosphere outliers RUN PICTURES -k 20

    Sorted by the distance to the 10th nearest neighbour (of up to 30 images, the nearest third), the farthest first.
    An image with fewer copies is still found.
    """
    from isosphere.workflows import list_count

    check_form(as_json, as_csv)
    loaded, _, index, white = opened("outliers", run, data, layer, passes, no_cache)
    count = min(k or list_count(len(index)), len(index))
    rows = [{"rank": i, **asdict(each)} for i, each in enumerate(loaded.outliers(index, count), 1)]
    columns: Columns = {
        "rank": lambda row: str(row["rank"]),
        "distance": fixed("distance", 3),
        "image": lambda row: row["path"],
        "nearest": lambda row: row["nearest"],
        "cosine": fixed("similarity", 3),
    }
    print_list(
        f"Outliers among {len(index):,} images",
        columns,
        without(rows, "row"),
        as_json=as_json,
        as_csv=as_csv,
        facts=facts_of(index),
    )
    say_of(index, white, as_json or as_csv)
