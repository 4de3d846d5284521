"""``isosphere export``: the encoder in a file that other programs load."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console
from isosphere.cli.options import LAYERS, Network, Overwrite, Run

__all__ = ["export"]


def export(
    run: Run,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="timm|safetensors|onnx|hub",
            help="Kind of file or folder.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File, or folder, to write.", show_default="RUN/export/..."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help=f"Which output: {LAYERS} (onnx), backbone (others).",
            show_default="adapted where there is one, else backbone",
        ),
    ] = None,
    network: Network = "student",
    opset: Annotated[
        int | None, typer.Option(help="Version of ONNX's operators.", show_default="torch's choice")
    ] = None,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="ONNX that takes images of any height and width.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the encoder for use elsewhere, check it, and print the lines of Python that use it.

    isosphere export RUN --format timm
    """
    import isosphere
    from isosphere.cli.apply import check_layer

    chosen = {"layer": check_layer(layer), "opset": opset, "dynamic_size": dynamic_size}
    made = isosphere.load(run, network=network).export(format_, out, overwrite=overwrite, **chosen)
    console = output_console()
    written = {"written": ", ".join(str(file) for file in made.files), "checked": made.check}
    facts(console, written | ({"holds": made.lacks} if made.lacks else {}))
    typer.echo(f"\n{made.snippet}", nl=False)
