"""``isosphere search``: the images most like one."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import error_console, output_console, paragraph
from isosphere.cli.listing import AsCsv, AsJson, check_form
from isosphere.cli.matches import say_matches
from isosphere.cli.names import images_of, together
from isosphere.cli.options import SEARCH_LAYER, NoCache, Overwrite, Passes, Run
from isosphere.errors import command

__all__ = ["search"]


def search(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="Files to look for, or a folder.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="DATA",
            help="Images to search, or embeddings in Parquet files.",
            show_default="those of isosphere update, else of the training",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find.")] = 5,
    layer: SEARCH_LAYER = None,
    passes: Passes = 1,
    engine: Annotated[
        str,
        typer.Option(metavar="auto|blocked|faiss", help="Who compares; the answer is the same."),
    ] = "auto",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) or picture (.png) to draw.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Find the images that are most like one, or like each of several, by the cosine of their features.

    isosphere search RUN PICTURE.jpg --in PICTURES -k 5

    Where the picture is among the images itself, by its content, that is remarked. The images are embedded once;
    the index stays in the run's folder and is extended when images are added.
    Every image is compared, by FAISS where it is installed and the index is large. --in also takes a .parquet that
    isosphere embed wrote, or a folder of such parts, of the same weights; of a million images on FAISS has an
    approximate index, whose recall is printed.
    """
    from isosphere.cli.apply import (
        check_engine,
        check_layer,
        check_page,
        indexed,
        indexing_note,
        listed,
        require_pictures,
        say_left_out,
        say_white,
    )
    from isosphere.cli.vectors import layer_note, vector_index, vector_note

    for_programs = check_form(as_json, as_csv)
    named, searcher = check_layer(layer), check_engine(engine)
    check_page(out, (".html", ".png"), overwrite=overwrite)
    import isosphere
    from isosphere.data import WHOLE
    from isosphere.deploy import embed_images, holds_vectors, source_of
    from isosphere.runs import RunFolder
    from isosphere.workflows import mark_itself, match_uncertainty

    RunFolder.require_first(run, data, command("search", data, *images, in_=run))

    loaded = isosphere.load(run, cache=not no_cache)
    if data is not None and holds_vectors(data):
        require_pictures(images)
        vectors = vector_index(loaded, data, named, searcher, passes=passes, out=out)
        rows = embed_images(vectors.run, asked := together(images), layer=vectors.layer)
        names = images if len(images) == len(rows) else source_of(asked).paths
        facts = {"layer": vectors.layer, "passes": vectors.run.passes, "images": len(vectors)}
        facts["recall"] = vectors.recall
        say_matches(
            names, vectors.search(rows, k), facts, vector_note(vectors), as_json=as_json, as_csv=as_csv
        )
        if (said := layer_note(loaded, vectors)) and not for_programs:
            paragraph(output_console(), said)
        return
    mixed = len(images) > 1 and any(Path(name).is_dir() for name in images)  # which is to be searched?
    loaded, within = images_of(loaded.looking(passes), data, "--in", training=not mixed)
    chosen = named or loaded.search_layer
    require_pictures(images)
    asked = together(images)
    loaded, white = loaded.settled(within)
    queries, names = loaded.fitted(WHOLE).embed(asked, layer=chosen), source_of(asked).paths
    if len(images) == len(names):
        names = images
    index = indexed(loaded, within, chosen)
    found = match_uncertainty(loaded, within, index, index.search(queries, k, engine=searcher))
    found = mark_itself(asked, within, index, found)
    facts = {"layer": chosen, "passes": passes, "images": len(index), "left_out": listed(index)}
    note = indexing_note(index, cache=not no_cache) + (f", {passes} passes" if passes > 1 else "")
    say_matches(names, found, facts, note, as_json=as_json, as_csv=as_csv)
    say_left_out(index, as_json=for_programs)
    say_white(white, as_json=for_programs)
    if out is not None:
        from isosphere.cli.drawing import draw_matches

        draw_matches(out, source_of(asked).read_as(loaded.reading), names, within, found, len(index))
        paragraph(error_console() if for_programs else output_console(), f"Drawn: {out}")
