"""``isosphere search``: the images most like one."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import error_console, output_console, paragraph, print_json, table
from isosphere.cli.options import LAYERS, NoCache, Overwrite, Run
from isosphere.errors import UsageError

__all__ = ["search"]


def search(
    run: Run,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="File to look for.", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            "--in", metavar="DATA", help="Images to search, as for isosphere train.", show_default=False
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find.")] = 5,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar=LAYERS,
            help="Features to compare.",
            show_default="wccn, or backbone where the run has no WCCN",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="auto|blocked|faiss", help="Who compares; all give the same answer."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) or picture (.png) to draw.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Find the images that are most like one, by the cosine of their features.

    isosphere search RUN PICTURE.jpg --in PICTURES -k 5

    The images are embedded once; the index stays in the run's folder and is extended when images are added.
    Every image is compared, by FAISS where it is installed and the index is large.
    """
    from isosphere.cli.apply import (
        check_engine,
        check_layer,
        check_page,
        indexed,
        indexing_note,
        listed,
        say_left_out,
    )

    named, searcher = check_layer(layer) if layer else None, check_engine(engine)
    check_page(out, (".html", ".png"), overwrite=overwrite)
    import isosphere

    loaded = isosphere.load(run, cache=not no_cache)
    chosen = named or loaded.search_layer
    query = loaded.embed(image, layer=chosen)
    if len(query) != 1:
        raise UsageError(
            f"{image} holds {len(query)} images, and one is searched for: give the file of an image."
        )
    index = indexed(loaded, data, chosen)
    (found,) = index.search(query, k, engine=searcher)
    if as_json:
        result = {
            "query": str(image),
            "layer": chosen,
            "images": len(index),
            "matches": [m.as_dict() for m in found],
            "left_out": listed(index),
        }
        print_json(result)
    else:
        rows = [[str(i), f"{m.similarity:.4f}", m.label or "", m.path] for i, m in enumerate(found, 1)]
        labelled = any(m.label for m in found)
        columns = ["rank", "cosine", *(["class"] if labelled else []), "image"]
        rows = rows if labelled else [[a, b, d] for a, b, _, d in rows]
        console = output_console()
        table(console, f"Like {image.name} among {indexing_note(index, cache=not no_cache)}", columns, rows)
    say_left_out(index, as_json=as_json)
    if out is not None:
        from isosphere.cli.drawing import draw_matches

        draw_matches(out, image, data, found, len(index))
        paragraph(error_console() if as_json else output_console(), f"Drawn: {out}")
