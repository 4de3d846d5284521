"""``isosphere bundle``: a run with its images as a folder that runs elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import commands, facts, output_console, paragraph
from isosphere.cli.names import together
from isosphere.cli.options import LAYERS, Overwrite, Run
from isosphere.errors import command, plural

__all__ = ["bundle"]


def bundle(
    run: Run,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Images to search, as for isosphere train.",
            show_default="those of isosphere update, else of the training",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write.", show_default=False)
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help=f"Features to compare: {LAYERS}.",
            show_default="wccn or adapted where there is one, else backbone",
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A classifier of isosphere probe.", show_default="RUN/probe.safetensors"
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a folder with the encoder, its metric, the index, the threshold for copies and the classifier.

    isosphere bundle RUN --out FOLDER

    It runs with numpy, Pillow and onnxruntime alone, and is served by isosphere serve. Ten images of the collection lie
    in it with their vectors, by which it is checked elsewhere: isosphere serve FOLDER --check.
    """
    import isosphere
    from isosphere.cli.apply import check_layer
    from isosphere.runs import RunFolder

    named = check_layer(layer)
    typed = together(data) if data else None
    RunFolder.require_first(run, typed, command("bundle", typed, run, out=out))
    made = isosphere.bundle(run, out, typed, layer=named, classifier=classifier, overwrite=overwrite)
    console = output_console()
    checked = made.check
    facts(
        console,
        {
            "written": f"{made.folder}, {made.size / 2**20:,.1f} MiB, {plural(made.images, 'image')}",
            "version": made.version,
            **(
                {"checked": f"reference vectors, largest difference {checked['difference']:.1e}"}
                if checked
                else {}
            ),
        },
    )
    for remark in made.remarks:
        paragraph(console, remark, style="yellow")
    commands(
        console,
        {
            "serve it": command("serve", made.folder),
            "check it elsewhere": command("serve", made.folder, check=True),
        },
    )
