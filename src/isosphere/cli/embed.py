"""``isosphere embed``: embeddings of images in a file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from isosphere.cli.classes import say_classes
from isosphere.cli.console import facts, output_console, paragraph
from isosphere.cli.lists import OwnData
from isosphere.cli.names import images_of, together
from isosphere.cli.options import Layer, Network, NoCache, Overwrite, Passes, Run
from isosphere.errors import UsageError, command, option

__all__ = ["embed"]


def embed(
    run: Run,
    data: OwnData = None,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="File: .npz, .parquet, .csv or .pt; of Ray a folder.", show_default=False
        ),
    ],
    layer: Layer = None,
    network: Network = "student",
    passes: Passes = 1,
    classify: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A classifier that isosphere probe wrote: class and probability of each image are written.",
            show_default=False,
        ),
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="With --classify: write the embeddings too.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 2,
    atlas: Annotated[
        bool,
        typer.Option(
            "--atlas", help="A .parquet with a map, neighbours, pictures and scores for Embedding Atlas."
        ),
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(metavar="ray", help="Workers on many machines write parts.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Write the embeddings of images to a file.

    isosphere embed RUN PICTURES --out embeddings.npz

    The .npz holds embeddings (float32, images x dimensions), labels (-1: none), paths and class_names, and
    no pickled objects; the .pt holds the same for torch.load; .parquet and .csv have a row an image. With
    --classify predicted and confidence, its probability, stand in their place; with --atlas the .parquet has what
    Embedding Atlas shows: x, y, neighbours, a thumbnail, class and scores. --layer posterior writes what a run of VJE
    believes of each image: means, then as many variances.
    With --engine ray workers of a Ray cluster, or of this machine, write Parquet files into a folder (docs/scaling.md).
    Interrupted, the same command goes on where it stopped.
    """
    from isosphere.cli.apply import check_layer, check_ray, say_white
    from isosphere.deploy import check_target

    chosen = check_layer(layer)
    if atlas:
        from isosphere.explore import check_atlas

        check_atlas(out)
        if classify is not None:
            raise UsageError(f"{option('classify', classify)} and {option('atlas', True)}: give one of them.")
    if engine is None:
        check_target(out, overwrite=overwrite)
    else:
        check_ray(engine, {"classify": classify, "atlas": atlas or None})
    import isosphere
    from isosphere.data import left_out, set_aside, survey
    from isosphere.deploy import embed_to_file
    from isosphere.ray import embed_parts
    from isosphere.runs import RunFolder
    from isosphere.workflows import Classifier, progress_bar

    of = together(data) if data else None
    if of is not None:
        RunFolder.require_first(run, of, command("embed", of, run, out=out))
    asked = None if classify is None else Classifier.read(classify)
    if asked is not None:
        passes = asked.passes if passes == 1 else passes
        chosen = chosen or asked.layer
    loaded = isosphere.load(run, cache=not no_cache, network=network).looking(passes)
    loaded, source = images_of(loaded, of, "DATA...")
    if atlas:
        from isosphere.cli.atlas import write_for_atlas

        write_for_atlas(loaded, of or source, out, None if chosen is None else loaded.check_layer(chosen))
        return
    chosen = loaded.check_output(chosen)
    if asked is not None:
        asked.require(loaded, chosen)
    loaded, white = loaded.settled(source)
    with progress_bar("Embedding") as progress:
        how: dict[str, Any] = {
            "layer": chosen,
            "batch_size": batch_size,
            "workers": workers,
            "overwrite": overwrite,
        }
        if engine is None:
            classes, kept = None if asked is None else asked.predictions, embeddings or asked is None
            made = embed_to_file(
                loaded, source, out, **how, progress=progress, classify=classes, with_values=kept
            )
        else:
            made = embed_parts(loaded, source, out, name=str(run), **how, progress=progress)
    console = output_console()
    what = f"posterior: {made.dim // 2} means, then as many variances" if chosen == "posterior" else chosen
    details = ", ".join(
        [what, *(["teacher"] * (network != "student")), *([f"{passes} passes"] * (passes > 1))]
    )
    numbers = {"embeddings": f"{made.count:,} of {made.dim} dimensions ({details})"} if made.dim else {}
    named = {"classes": f"{len(asked.class_names)} by {classify} ({details})"} if asked else {}
    facts(console, {"written": str(out), **numbers, **named})
    if made.predictions is not None:
        say_classes(made.predictions, source)
    say_white(white)
    decided = survey(source.read_as(loaded.reading)).sentences
    for said in (left_out(made.skipped) if made.skipped else None, set_aside(source), *decided):
        if said:
            paragraph(console, said, style="yellow")
