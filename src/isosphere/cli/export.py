"""``isosphere export``: the encoder in a file that other programs load."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)],
    format_: Annotated[
        str,
        typer.Option("--format", metavar="timm|safetensors|onnx", help="Kind of file.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write.", show_default="RUN/export/...")
    ] = None,
    layer: Annotated[
        str, typer.Option(metavar="backbone|views|head", help="Output (views and head: onnx only).")
    ] = "backbone",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write the encoder for use elsewhere, check it, and print the lines of Python that use it.

    isosphere export RUN --format timm
    """
    from isosphere.cli.apply import check_layer
    from isosphere.errors import UsageError

    chosen = check_layer(layer)
    if out is not None and out.exists() and not overwrite:
        raise UsageError(f"{out} exists: add --overwrite, or give another --out.")
    import isosphere
    from isosphere.deploy import export as write

    made = write(isosphere.load(run), format_, out, layer=chosen)
    console = output_console()
    facts(console, {"written": ", ".join(str(file) for file in made.files), "checked": made.check})
    typer.echo(f"\n{made.snippet}", nl=False)
