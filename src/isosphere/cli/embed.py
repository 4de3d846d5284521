"""``isosphere embed``: embeddings of images in a file."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console, paragraph
from isosphere.cli.options import Data, Layer, Network, NoCache, Overwrite, Passes, Run, together
from isosphere.errors import command

__all__ = ["embed"]


def embed(
    run: Run,
    data: Data,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write: .npz, .parquet, .csv or .pt.", show_default=False),
    ],
    layer: Layer = None,
    network: Network = "student",
    passes: Passes = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 2,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Write the embeddings of images to a file.

    isosphere embed RUN PICTURES --out embeddings.npz

    The .npz holds embeddings (float32, images x dimensions), labels (-1: none), paths and class_names, and
    no pickled objects; the .pt holds the same for torch.load; .parquet and .csv have a row an image.
    Interrupted, the same command goes on where it stopped.
    """
    from isosphere.cli.apply import check_layer, say_white
    from isosphere.deploy import check_target

    chosen = check_layer(layer)
    check_target(out, overwrite=overwrite)
    import isosphere
    from isosphere.data import left_out, open_source, set_aside, survey
    from isosphere.deploy import embed_to_file
    from isosphere.runs import RunFolder
    from isosphere.workflows import progress_bar

    RunFolder.require_first(run, together(data), command("embed", together(data), run, out=out))
    loaded = isosphere.load(run, cache=not no_cache, network=network).looking(passes)
    source = open_source(together(data))
    chosen = loaded.check_layer(chosen)
    loaded, white = loaded.settled(source)
    with progress_bar("Embedding") as progress:
        made = embed_to_file(
            loaded,
            source,
            out,
            layer=chosen,
            batch_size=batch_size,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    console = output_console()
    how = ", ".join([chosen, *(["teacher"] * (network != "student")), *([f"{passes} passes"] * (passes > 1))])
    facts(console, {"written": str(out), "embeddings": f"{made.count:,} of {made.dim} dimensions ({how})"})
    say_white(white)
    decided = survey(source.read_as(loaded.reading)).sentences
    for said in (left_out(made.skipped) if made.skipped else None, set_aside(source), *decided):
        if said:
            paragraph(console, said, style="yellow")
