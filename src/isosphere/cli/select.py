"""``isosphere select``: which images to label first."""

from dataclasses import asdict
from typing import Annotated

import typer

from isosphere.cli.listing import AsCsv, AsJson, Columns, check_form, fixed, print_list
from isosphere.cli.lists import OwnData, facts_of, labelled_in, opened, say_of, without
from isosphere.cli.options import SEARCH_LAYER, NoCache, Passes, Run, Seed

__all__ = ["select"]


def select(
    run: Run,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to choose.")],
    data: OwnData = None,
    how: Annotated[
        str,
        typer.Option(
            metavar="diverse|typical",
            help="Farthest from each other, or one of the middle of each cluster.",
            autocompletion=lambda: ["diverse", "typical"],
        ),
    ] = "diverse",
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Labels that are there already: these images are left out.",
            show_default=False,
        ),
    ] = None,
    layer: SEARCH_LAYER = None,
    passes: Passes = 1,
    seed: Seed = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    no_cache: NoCache = False,
) -> None:
    """Choose images to label first.

    isosphere select RUN PICTURES -k 50 --csv > to_label.csv

    diverse: each image is the one farthest from those before it (farthest-point selection), so that outliers come
    early. typical: images are put into k clusters, and of each the one in its densest place is taken.
    """
    check_form(as_json, as_csv)
    loaded, source, index, white = opened("select", run, data, layer, passes, no_cache)
    labelled = labelled_in(index, source, labels) if labels else ()
    found = loaded.subset(index, k, how, labelled=labelled, seed=seed or 0)
    rows = [{"rank": i, **asdict(each)} for i, each in enumerate(found, 1)]
    columns: Columns = {"rank": lambda row: str(row["rank"]), "image": lambda row: row["path"]}
    if how == "diverse":
        columns = {**columns, "distance to those before": fixed("distance", 3)}
    else:
        columns = {**columns, "images in its cluster": lambda row: f"{row['images']:,}"}
    rows = without(rows, "row", "images" if how == "diverse" else "distance")
    title = f"{len(rows):,} {how} images of {len(index):,}"
    print_list(title, columns, rows, as_json=as_json, as_csv=as_csv, facts=facts_of(index))
    say_of(index, white, as_json or as_csv)
