"""``isosphere views``: a picture of what the encoder will be asked to ignore."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console
from isosphere.errors import RunError, UsageError

__all__ = ["views"]


def views(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As for isosphere train.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.")] = Path("views.png"),
    recipe: Annotated[
        str | None, typer.Option(help="See isosphere list recipes.", show_default="by the data")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of a view in pixels.", show_default="by the data")
    ] = None,
    count: Annotated[int, typer.Option(help="Images to show.", min=1, max=64)] = 8,
    seed: Annotated[int | None, typer.Option(help="Of the views.", show_default="0")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any key, e.g. views.rotation=15.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Draw images beside their views.

    isosphere views PICTURES --out views.png

    Each row is an image and what the network would be shown of it. If you cannot tell which views belong
    together, neither will the encoder; if they are all alike, there is nothing to learn.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: add --overwrite, or give another --out.")
    if out.suffix.lower() != ".png":
        raise UsageError(
            f"--out {out}: expected a name that ends in .png, for example {out.with_suffix('.png')}."
        )
    from isosphere.data import load_images
    from isosphere.models import build_encoder
    from isosphere.training import build_views, contact_sheet, load_config, open_training_source, resolve

    flags = {"data.source": data, "data.image_size": image_size, "views.recipe": recipe, "train.seed": seed}
    config = load_config(None, set_ or [], flags)
    source = open_training_source(config)
    config, suggestion = resolve(config, source)
    size = config.data.canvas_size or 0
    stride = max(1, len(source) // count)
    images = load_images(source.subset(list(range(0, len(source), stride))[:count]), size)
    encoder = build_encoder("small-conv", image_size=config.data.image_size or 32)
    made = build_views(config, encoder)
    try:
        contact_sheet(images.images, made, seed=config.train.seed).save(out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}.") from error
    shown = {
        "recipe": config.views.recipe,
        "views": f"{made.recipe.views} of {made.recipe.size} px",
        "picture": out,
    }
    if suggestion is not None:
        shown |= {"images": suggestion.reason, "advice": " ".join(suggestion.cautions) or "none"}
    facts(output_console(), {name: str(value) for name, value in shown.items()})
