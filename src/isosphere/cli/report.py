"""``isosphere report``: one page about one run, or several side by side."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console, paragraph
from isosphere.cli.options import NoCache, Overwrite

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Images to show.", show_default="those of the run, test part if any"
        ),
    ] = None,
    map_kind: Annotated[
        str, typer.Option("--map", metavar="pca|umap", help="How embeddings are brought to the plane.")
    ] = "pca",
    limit: Annotated[int, typer.Option(help="Show the runs so many images.")] = 2000,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write.",
            show_default="RUN/report.html, or comparison.html",
        ),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Write one page about a run: what was run, curves, figures, neighbours, maps, signs of collapse.

    isosphere report RUN [RUN ...]

    Several runs are shown side by side on the same images. The page is a single file that needs no network;
    the table of figures is there if isosphere evaluate was run before.
    """
    from isosphere.cli.apply import check_page

    check_page(out, (".html",), overwrite=overwrite)
    from isosphere.workflows import report as workflow

    made = workflow(runs, data, map=map_kind, limit=limit, out=out, overwrite=overwrite, cache=not no_cache)
    console = output_console()
    size = f"{made.path.stat().st_size / 1e6:.1f} MB"
    facts(console, {"report": str(made.path), "size": size})
    for name, text in made.warnings:
        paragraph(console, f"{name}: {text}", style="yellow")
