"""``isosphere cluster``: images that lie together."""

from typing import Annotated

import typer

from isosphere.cli.listing import AsCsv, AsJson, Columns, check_form, fixed, print_list
from isosphere.cli.lists import OwnData, facts_of, opened, say_of
from isosphere.cli.options import SEARCH_LAYER, NoCache, Passes, Run, Seed
from isosphere.errors import shell

__all__ = ["cluster"]


def cluster(
    run: Run,
    data: OwnData = None,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, help="Number of clusters.", show_default="20, or fewer of few images"),
    ] = None,
    layer: SEARCH_LAYER = None,
    passes: Passes = 1,
    seed: Seed = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    no_cache: NoCache = False,
) -> None:
    """Divide images into clusters, the largest first.

    isosphere cluster RUN PICTURES -k 20 --csv > clusters.csv

    k-means on unit embeddings. The table names the images nearest to the centre of each; --csv and --json have a row
    an image.
    """
    check_form(as_json, as_csv)
    loaded, _, index, white = opened("cluster", run, data, layer, passes, no_cache)
    found = loaded.cluster(index, k, seed=seed or 0)
    if as_json or as_csv:
        rows = [
            {"cluster": each.number, "path": path, "similarity": cosine, "label": index.label_of(row)}
            for each in found
            for path, cosine, row in zip(each.paths, each.similarities, each.rows, strict=True)
        ]
        print_list(
            "", {}, rows, as_json=as_json, as_csv=as_csv, facts=facts_of(index) | {"clusters": len(found)}
        )
    else:
        columns: Columns = {
            "cluster": lambda row: str(row["number"]),
            "images": lambda row: f"{row['images']:,}",
            "mean cosine": fixed("cosine", 3),
            "nearest to the centre": lambda row: shell(*row["paths"][:3]),
        }
        if any(each.label for each in found):
            columns = {**columns, "mostly": lambda row: row["mostly"]}
        rows = [
            {
                "number": each.number,
                "images": len(each),
                "cosine": sum(each.similarities) / len(each),
                "paths": each.paths,
                "mostly": f"{each.label} ({each.share:.0%})" if each.label else "",
            }
            for each in found
        ]
        print_list(f"{len(found)} clusters of {len(index):,} images", columns, rows)
    say_of(index, white, as_json or as_csv)
