"""A sheet of what a network would be shown of some images."""

from PIL import Image

from isosphere.data import load_images
from isosphere.models import build_encoder
from isosphere.training import Config, build_views, contact_sheet, open_training_source, resolve


def draw_views(config: Config, *, count: int = 8) -> tuple[Image.Image, dict[str, str]]:
    """Images of the configured source, spread over it, each in a row with its views; and what was drawn, in words.

    Raises: UsageError for images that cannot be opened, or a recipe that there is not.
    """
    source = open_training_source(config)
    config, suggestion = resolve(config, source)
    stride = max(1, len(source) // count)
    chosen = source.subset(list(range(0, len(source), stride))[:count])
    images = load_images(chosen, config.data.canvas_size or 0)
    made = build_views(config, build_encoder("small-conv", image_size=config.data.image_size or 32))
    sheet = contact_sheet(images.images, made, seed=config.train.seed)
    facts = {"recipe": str(config.views.recipe), "views": f"{made.recipe.views} of {made.recipe.size} px"}
    if suggestion is not None:
        facts |= {"images": suggestion.reason, "advice": " ".join(suggestion.cautions) or "none"}
    return sheet, facts
