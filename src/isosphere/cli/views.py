"""``isosphere views``: a picture of what the encoder will be asked to ignore."""

import io
from pathlib import Path
from typing import Annotated

import typer

from isosphere.atomic import make_folder, write_bytes
from isosphere.cli.console import facts, output_console
from isosphere.cli.names import together
from isosphere.cli.options import Data, ImageSize, Overwrite, Set

__all__ = ["views"]


def views(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.")] = Path("views.png"),
    recipe: Annotated[
        str | None, typer.Option(help="See isosphere list recipes.", show_default="by the data")
    ] = None,
    image_size: ImageSize = None,
    count: Annotated[int, typer.Option(help="Images to show.", min=1, max=64)] = 8,
    seed: Annotated[int | None, typer.Option(help="Of the views.", show_default="0")] = None,
    set_: Set = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw images beside their views.

    isosphere views PICTURES --out views.png

    Each row is an image as it is stored, as it is read, and what the network would be shown of it. If you cannot
    tell which views belong together, neither will the encoder; if they are all alike, there is nothing to learn.
    """
    from isosphere.cli.apply import check_page

    check_page(out, (".png",), overwrite=overwrite)
    from isosphere.training import load_config
    from isosphere.workflows import draw_views

    flags = {"data.source": together(data), "views.recipe": recipe, "train.seed": seed}
    flags["data.image_size"] = image_size
    sheet, shown = draw_views(load_config(None, set_ or [], flags), count=count)
    picture = io.BytesIO()
    sheet.save(picture, "PNG")
    make_folder(out.parent)
    write_bytes(out, picture.getvalue())
    first = {name: shown.pop(name) for name in ("recipe", "views")}
    facts(output_console(), {**first, "picture": str(out), **shown})
