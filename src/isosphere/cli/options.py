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
    "Images",
    "LAYERS",
    "Layer",
    "MaxRestarts",
    "Network",
    "NoCache",
    "Nodes",
    "Preset",
    "OneData",
    "Overwrite",
    "Passes",
    "Run",
    "SEARCH_LAYER",
    "Seed",
    "Set",
]

Run: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="Folder of a run, or timm:NAME[@FILE], a network as it is.", show_default=False
    ),
]
Data: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="DATA", help="Images, as for isosphere train.", show_default=False)
]
# Where other options name images too: of a pattern that a shell has written out, the rest would be taken for these.
OneData: TypeAlias = Annotated[
    str, typer.Argument(metavar="DATA", help="Images, as for isosphere train.", show_default=False)
]
Images: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        help="A folder of images, a zip of one, an .npz, or a built-in: textures:wood, digits, ...; several are one.",
        show_default=False,
    ),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")]
NoCache: TypeAlias = Annotated[
    bool, typer.Option("--no-cache", help="Compute features anew and do not keep them in RUN/features.")
]
LAYERS = "adapted, backbone, wccn or head"


def _layers() -> list[str]:
    return ["adapted", "backbone", "wccn", "head"]


Layer: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LAYER",
        help=f"Which output: {LAYERS}.",
        autocompletion=_layers,
        show_default="adapted where there is one, else backbone",
    ),
]
Network: TypeAlias = Annotated[
    str,
    typer.Option(
        "--network",
        metavar="student|teacher",
        help="The network that learned, or its slow copy where there is one.",
    ),
]
SEARCH_LAYER: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LAYER",
        help=f"Features to compare: {LAYERS}.",
        show_default="wccn or adapted where there is one, else backbone",
        autocompletion=_layers,
    ),
]
Passes: TypeAlias = Annotated[
    int, typer.Option(help="Average each image with its mirror image (2) and slight crops (more).")
]
ImageSize: TypeAlias = Annotated[
    int | None, typer.Option(help="Side of a view in pixels.", show_default="by the data")
]
Minutes: TypeAlias = Annotated[
    float | None, typer.Option(help="Train for so long instead of a number of epochs.", show_default=False)
]
Discrepancy: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What spreads the embeddings; see isosphere list discrepancies.", show_default=False),
]
Ema: TypeAlias = Annotated[
    float | None, typer.Option(help="Momentum of a slow teacher, such as 0.996.", show_default=False)
]
Distill: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE|RUN",
        help="Learn the features of this network, without labels.",
        show_default=False,
    ),
]
Devices: TypeAlias = Annotated[
    int | None, typer.Option(help="Processes on this host, one a GPU.", show_default="1")
]
Nodes: TypeAlias = Annotated[int | None, typer.Option(help="Hosts; see docs/devices.md.", show_default="1")]
MaxRestarts: TypeAlias = Annotated[
    int | None,
    typer.Option(help="After a failure start again so often, from the last checkpoint.", show_default="0"),
]
Preset: TypeAlias = Annotated[
    str | None,
    typer.Option(help="A paper's recipe, or a measured one; see isosphere list presets.", show_default=False),
]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Of everything random.", show_default="0")]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say all that was chosen, not only what will happen.")
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key, e.g. optim.learning_rate=0.001; repeatable.",
        show_default=False,
    ),
]
