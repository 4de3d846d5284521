"""``isosphere embed``: embeddings of images in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.classes import say_classes
from isosphere.cli.console import facts, output_console, paragraph
from isosphere.cli.names import together
from isosphere.cli.options import Data, Layer, Network, NoCache, Overwrite, Passes, Run
from isosphere.errors import UsageError, command, option, shell

if TYPE_CHECKING:
    from isosphere import workflows
    from isosphere.deploy import Layer as LayerName

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
    classify: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A classifier that isosphere probe wrote: classes are written beside the embeddings.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 2,
    atlas: Annotated[
        bool,
        typer.Option(
            "--atlas", help="A .parquet with a map, neighbours, pictures and scores for Embedding Atlas."
        ),
    ] = False,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Write the embeddings of images to a file.

    isosphere embed RUN PICTURES --out embeddings.npz

    The .npz holds embeddings (float32, images x dimensions), labels (-1: none), paths and class_names, and
    no pickled objects; the .pt holds the same for torch.load; .parquet and .csv have a row an image. With
    --classify also predicted and confidence, its probability; with --atlas the .parquet has what Embedding Atlas
    shows: x, y, neighbours, a thumbnail, class and scores. --layer posterior writes what a run of VJE believes of
    each image: means, then as many variances.
    Interrupted, the same command goes on where it stopped.
    """
    from isosphere.cli.apply import check_layer, say_white
    from isosphere.deploy import check_target

    chosen = check_layer(layer)
    if atlas:
        from isosphere.explore import check_atlas

        check_atlas(out)
        if classify is not None:
            raise UsageError(f"{option('classify', classify)} and {option('atlas', True)}: give one of them.")
    check_target(out, overwrite=overwrite)
    import isosphere
    from isosphere.data import left_out, open_source, set_aside, survey
    from isosphere.deploy import embed_to_file
    from isosphere.runs import RunFolder
    from isosphere.workflows import Classifier, progress_bar

    RunFolder.require_first(run, together(data), command("embed", together(data), run, out=out))
    asked = None if classify is None else Classifier.read(classify)
    if asked is not None:
        passes = asked.passes if passes == 1 else passes
        chosen = chosen or asked.layer
    loaded = isosphere.load(run, cache=not no_cache, network=network).looking(passes)
    if atlas:
        write_for_atlas(loaded, together(data), out, None if chosen is None else loaded.check_layer(chosen))
        return
    source = open_source(together(data))
    chosen = loaded.check_output(chosen)
    if asked is not None:
        asked.require(loaded, chosen)
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
            classify=None if asked is None else asked.predictions,
        )
    console = output_console()
    what = f"posterior: {made.dim // 2} means, then as many variances" if chosen == "posterior" else chosen
    how = ", ".join([what, *(["teacher"] * (network != "student")), *([f"{passes} passes"] * (passes > 1))])
    facts(console, {"written": str(out), "embeddings": f"{made.count:,} of {made.dim} dimensions ({how})"})
    if asked is not None:
        facts(console, {"classes": f"{len(asked.class_names)} by {classify}"})
    if made.predictions is not None:
        say_classes(made.predictions, source)
    say_white(white)
    decided = survey(source.read_as(loaded.reading)).sentences
    for said in (left_out(made.skipped) if made.skipped else None, set_aside(source), *decided):
        if said:
            paragraph(console, said, style="yellow")


def write_for_atlas(run: "workflows.Run", data: str, out: Path, layer: "LayerName | None") -> None:
    """Write the file that Embedding Atlas' own program opens, and how."""
    from isosphere.cli.apply import say_left_out
    from isosphere.explore import explored, write_atlas
    from isosphere.workflows import progress_bar

    page = explored(run, data, layer=layer, phase=progress_bar)
    write_atlas(page, out)
    collection = page.resources.collection
    console = output_console()
    count, dim = collection.unit().shape
    facts(
        console,
        {
            "written": str(out),
            "embeddings": f"{count:,} of {dim} dimensions ({collection.layers[0]}, unit rows of the whole picture)",
            "open": f"embedding-atlas {shell(out)} --x x --y y --neighbors neighbors --image image",
        },
    )
    say_left_out(collection.index(), as_json=False)
