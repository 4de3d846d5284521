"""A sheet of what a network would be shown of some images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from isosphere.data import Source, as_name, as_source, left_out, load_images, load_pictures
from isosphere.models import build_encoder
from isosphere.training import (
    Config,
    about_pixels,
    build_views,
    contact_sheet,
    load_config,
    open_training_source,
    resolve,
    settle_channels,
    settle_white,
)


def views(
    data: Any,
    *,
    recipe: str | None = None,
    image_size: int | None = None,
    count: int = 8,
    seed: int | None = None,
    set: Mapping[str, Any] | None = None,
) -> Image.Image:
    """Images beside their views: what the encoder will be asked to ignore, as ``isosphere views`` draws it.

    Args:
        data: images, as :func:`isosphere.train` takes them. recipe: of the views; None: by the images.
        image_size: side of a view in pixels. count: images to show. seed: of the views.
        set: any keys, dotted: ``set={"views.rotation": 15}``.

    Returns: a picture; the first column holds the images as they are stored, the second as they are read.

    Raises: UsageError for what cannot be opened or is unknown.
    """
    data = as_name(data)
    named = isinstance(data, (str, Path))
    flags = {"data.image_size": image_size, "views.recipe": recipe, "train.seed": seed, **(set or {})}
    if named:
        flags["data.source"] = str(data)
    return draw_views(load_config(flags=flags), source=None if named else as_source(data), count=count)[0]


def draw_views(
    config: Config, *, source: Source | None = None, count: int = 8
) -> tuple[Image.Image, dict[str, str]]:
    """Images of a source, that of the configuration if None, spread over it, each in a row as it is stored, as it is
    read, and with its views; and what was drawn and decided, in words.

    Raises: UsageError for images that cannot be opened, or a recipe that there is not.
    """
    source = open_training_source(config, None, settled=False) if source is None else source
    config, channels = settle_channels(config, source)
    config, white = settle_white(config, source)
    source = source.read_as(config.data.reading)
    config, suggestion = resolve(config, source)
    stride = max(1, len(source) // count)
    chosen = source.subset(list(range(0, len(source), stride))[:count])
    images = (load_pictures if config.data.whole else load_images)(chosen, config.data.canvas_size or 0)
    size, in_chans = config.data.image_size or 32, config.data.in_chans
    made = build_views(config, build_encoder("small-conv", image_size=size, in_chans=in_chans))
    sheet = contact_sheet(images.images, made, seed=config.train.seed)
    places = iter(range(len(chosen)))  # names may be given twice, and are in order
    read = [next(i for i in places if chosen.paths[i] == path) for path in images.paths]
    sheet = beside_files(sheet, [chosen.stored(i) for i in read])
    facts = {"recipe": str(config.views.recipe), "views": f"{made.recipe.views} of {made.recipe.size} px"}
    facts |= about_pixels(config, source, white, channels)
    if white is not None and white.caution:
        facts["beware"] = white.caution
    if images.skipped:
        facts["left out"] = (
            f"{left_out(images.skipped)} Of {len(source)} images {len(chosen)} were looked at."
        )
    if suggestion is not None:
        facts |= {"images": suggestion.reason, "advice": " ".join(suggestion.cautions) or "none"}
    return sheet, facts


CELL, GAP, HEADER = 96, 4, 16
BESIDE = "#d8d8d8"


def beside_files(sheet: Image.Image, pictures: Sequence[Image.Image]) -> Image.Image:
    """A sheet of one row an image, with the whole pictures as they are stored to the left, and names of the columns."""
    left = CELL + 2 * GAP
    whole = Image.new("RGB", (left + sheet.width, HEADER + sheet.height), "white")
    whole.paste(sheet, (left, HEADER))
    for row, picture in enumerate(pictures):
        shown = ImageOps.pad(picture.convert("RGB"), (CELL, CELL), color=BESIDE)
        whole.paste(shown, (GAP, HEADER + GAP + row * (CELL + GAP)))
    words = ImageDraw.Draw(whole)
    for place, word in (
        (GAP, "as stored"),
        (left + GAP, "as read"),
        (left + CELL + 2 * GAP + HEADER, "views"),
    ):
        words.text((place, 2), word, fill="black")
    return whole
