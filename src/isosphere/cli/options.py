"""Arguments that several commands have in common."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = [
    "Data",
    "Devices",
    "Discrepancy",
    "Ema",
    "ImageSize",
    "LAYERS",
    "NoCache",
    "Overwrite",
    "Run",
    "Seed",
    "Set",
]

Run: TypeAlias = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)]
Data: TypeAlias = Annotated[
    str, typer.Argument(metavar="DATA", help="Images, as for isosphere train.", show_default=False)
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")]
NoCache: TypeAlias = Annotated[
    bool, typer.Option("--no-cache", help="Compute features anew and do not keep them in RUN/features.")
]
LAYERS = "backbone|wccn|head"
ImageSize: TypeAlias = Annotated[
    int | None, typer.Option(help="Side of a view in pixels.", show_default="by the data")
]
Discrepancy: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What spreads the embeddings; see isosphere list discrepancies.", show_default=False),
]
Ema: TypeAlias = Annotated[
    float | None, typer.Option(help="Momentum of a slow teacher, such as 0.996.", show_default=False)
]
Devices: TypeAlias = Annotated[
    int | None, typer.Option(help="Processes on this host, one a GPU.", show_default="1")
]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Of everything random.", show_default="0")]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key, e.g. optim.learning_rate=0.001; repeatable.",
        show_default=False,
    ),
]
