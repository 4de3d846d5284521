"""``isosphere explore``: a page on which a collection is looked at, searched and labelled."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console, paragraph
from isosphere.cli.names import images_of, together
from isosphere.cli.options import LAYERS, NoCache, Passes, Run
from isosphere.errors import command

__all__ = ["explore"]


def explore(
    run: Run,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Images, as for isosphere train.",
            show_default="those of isosphere update, else of the training",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help=f"Features of the map and the lists: {LAYERS}.",
            show_default="wccn or adapted where there is one, else backbone",
        ),
    ] = None,
    passes: Passes = 1,
    map_kind: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="umap|pca",
            help="How the images are laid out.",
            show_default="umap where it is installed",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: one that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write the page as files, and serve nothing.", show_default=False
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Look at a collection: a map of all images, neighbours, copies, outliers, clusters, labels.

    isosphere explore RUN PICTURES

    Prints the address of a page that this machine alone can open; Ctrl-C ends it. Labels are written to
    RUN/labels.csv and follow the content of an image. Nothing is deleted: copies to drop become a list of files.
    With --export the page is a folder of files that can be opened without a server, or sent.
    """
    from isosphere.cli.apply import check_layer, say_left_out
    from isosphere.explore import (
        check_folder,
        explored,
        export_page,
        require_packages,
        serve,
    )
    from isosphere.runs import RunFolder
    from isosphere.workflows import load, progress_bar

    named = check_layer(layer)
    if export is None:
        require_packages()
    else:
        check_folder(export)
    console = output_console()
    if data:
        RunFolder.require_first(run, together(data), command("explore", together(data), run))
    loaded = load(run, cache=not no_cache).looking(passes)
    loaded, chosen = images_of(loaded, together(data) if data else None)
    page = explored(loaded, chosen, layer=named, map_kind=map_kind, phase=progress_bar)
    say_left_out(page.resources.collection.index(), as_json=False)
    if export is not None:
        with progress_bar("Writing") as progress:
            written = export_page(page, export, progress=progress)
        paragraph(console, f"Written: {written}. Open it in a browser, or send the folder.")
        return

    def ready(address: str) -> None:
        plain = map_kind is None and find_spec("umap") is None
        drawn = {"map": "by PCA; UMAP keeps neighbours together: pip install umap-learn"} if plain else {}
        images = f"{len(page.resources.collection):,}"
        kept = annotations.unwritten or str(annotations.labels_file)
        facts(console, {"images": images, **drawn, "labels": kept, "page": address, "end": "Ctrl-C"})
        if browser:
            typer.launch(address)

    annotations = page.annotations
    serve(page, port=port, ready=ready)
    paragraph(console, annotations.ended)
