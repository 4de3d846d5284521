"""What was left open in a configuration, decided from the images: size, canvas, recipe, encoder, batch, length."""

import math
from collections.abc import Container
from statistics import median_low

from isosphere.data import (
    ImageSet,
    PictureSet,
    Source,
    Suggestion,
    ViewRecipe,
    White,
    channel_statistics,
    find_channels,
    find_white,
    load_images,
    recipe,
    require_levels,
    suggest,
)
from isosphere.errors import UsageError, option
from isosphere.methods import DISTILLATION
from isosphere.models import own_start
from isosphere.training._config import Config

EPOCHS = 100
EPOCHS_FROM_WEIGHTS, HEAD_EPOCHS, HEAD_RATE, BACKBONE_RATE = 5, 1, 1e-3, 1e-4
"""Where a training begins with given weights: few passes, the first for the head alone, then two rates. First the head:
Kumar et al., Fine-Tuning can Distort Pretrained Features, 2202.10054.
"""
LARGEST_BATCH, SMALLEST_BATCH, STEPS_PER_EPOCH = 256, 16, 10
LARGEST_BATCH_OF_LARGE, LARGE_IMAGE = 64, 160
"""From this side on a training from given weights has smaller batches: two views of 256 images of 224 px take tens of
GiB in any network.
"""
SMALL_IMAGE, USUAL_IMAGE = 40, 64
"""Images up to the first side are taken as they are, larger ones are viewed at the second unless asked
otherwise.
"""

MOST_OF_VIEW = 4
"""Times the side of a view at which images are kept at the most: memory grows with its square."""

LARGEST_FOR_SMALL_CONV = 96
WEIGHT_DECAY = {"adamw": 0.05, "lars": 1e-6, "sgd": 1e-4}
"""Where none is given: LeJEPA's for a ViT, BYOL's, SimSiam's."""

LOOKED_AT, LOOKED_AT_SIDE = 512, 256


def typical_side(source: Source, samples: int = 16) -> int:
    """Median short side in pixels of a few images spread over the source; unreadable ones are passed over.

    Raises: UsageError if none of them can be read.
    """
    picked = sorted({round(i * (len(source) - 1) / max(1, samples - 1)) for i in range(samples)})
    sides, reasons = [], []
    for i in picked:
        try:
            sides.append(min(source.image(i).size))
        except (OSError, ValueError, RuntimeError) as error:
            reasons.append(f"{source.paths[i]}: {error}")
    if not sides:
        raise UsageError(
            f"none of {len(picked)} images tried in {source.name} can be read ({reasons[0]}): are these images?"
        )
    return median_low(sides)


EARLIER = "rgba"
"""The channels of runs of versions that did not name them: red, green and blue, a fourth band is transparency."""


def settle_channels(config: Config, source: Source) -> tuple[Config, str | None]:
    """The configuration with the channels that are taken of these images, and why; None where there was nothing to
    decide.

    Raises: UsageError if they disagree, or have not what is asked for.
    """
    found = find_channels(source, config.data.taken)
    return config.replace(data={"channels": str(found.value)}), found.reason


def settle_mean(config: Config, images: ImageSet | PictureSet | Source) -> tuple[Config, str | None]:
    """The configuration with mean and deviation of channels that are no colours, measured on the images, and the words
    for it; None where they are given, or the encoder's.
    """
    channels = config.data.taken
    if config.data.mean is not None or channels is None or channels.colour:
        return config, None
    mean, std = channel_statistics(images, config.data.canvas_size or USUAL_IMAGE)
    settled = config.replace(data={"mean": mean, "std": std})
    return settled, f"mean and deviation of each channel are those of {min(len(images), 512)} images"


def settle_white(config: Config, source: Source) -> tuple[Config, White | None]:
    """The configuration with the number that is white in these images, and why; None where it was given or all images
    have 8 bits.

    Raises: UsageError if it cannot be told, or the images would be nearly black by the one that was given.
    """
    if config.data.white is not None:
        levels = f"Give {option('data.white', ...)}, the number that is white in them."
        require_levels(source, config.data.white, levels)
        return config, None
    found = find_white(source)
    return (config if found is None else config.replace(data={"white": found.value})), found


def resolve(config: Config, source: Source, *, begun: bool = False) -> tuple[Config, Suggestion | None]:
    """The same configuration with every open key of data, views, encoder, batch and length filled in.

    The choice depends on the images and on nothing of the machine, so that a command means the same
    everywhere. Where no recipe of views was asked for, the one that the images suggest is taken and the
    suggestion handed back. Of a run that has `begun` what an earlier version did not know stays open: it goes on
    without it.
    """
    config = _by_teacher(_by_weights(config))
    data, train = config.data, config.train
    open_size = data.image_size is None or data.canvas_size is None
    native = typical_side(source) if open_size or config.views.recipe is None else 0
    given = config.views.overrides
    suggestion = _suggest(source, native, given) if config.views.recipe is None else None
    name = config.views.recipe or (suggestion.name if suggestion else "crops")
    size = data.image_size or _view_side(native, texture=name.startswith("textures"))
    canvas = data.canvas_size or max(size, min(native, canvas_side(recipe(name, size, **given))))
    resolved = config.replace(
        data={"image_size": size, "canvas_size": canvas, "crop_from": data.crop_from or "whole"},
        views={"recipe": name},
        train={"batch_size": train.batch_size or default_batch(len(source), _largest_batch(config, size))},
    )
    return _by_size(resolved, config, begun=begun), suggestion


def _by_weights(config: Config) -> Config:
    """Encoder and size of the views as the weights have them that training begins with, where they are left open: a
    network sees best at the size that it was trained on, also where the images are smaller.
    """
    data, model = config.data, config.model
    if model.init == "random" or (model.encoder is not None and data.image_size is not None):
        return config
    encoder, size = own_start(model.encoder, model.init)
    return config.replace(data={"image_size": data.image_size or size}, model={"encoder": encoder})


def _by_teacher(config: Config) -> Config:
    """The views in which what a teacher says of the whole picture still holds, where none were asked for."""
    if config.method.name != DISTILLATION or config.views.recipe is not None:
        return config
    return config.replace(views={"recipe": DISTILLATION})


def resolve_sizes(config: Config) -> Config:
    """The same from the configuration alone, where it names image size, recipe and batch."""
    config = _by_teacher(config)
    size = config.data.image_size or USUAL_IMAGE
    views = recipe(config.views.recipe or "crops", size, **config.views.overrides)
    chosen = {
        "canvas_size": config.data.canvas_size or canvas_side(views),
        "crop_from": config.data.crop_from or "whole",
    }
    return _by_size(config.replace(data=chosen), config)


def canvas_side(views: ViewRecipe) -> int:
    """Short side in pixels at which large images are kept for these views.

    Twice that of a global view: a crop of a quarter of the area then still has a pixel for each of the view's. More,
    four times at the most, where the smallest local crop needs it for that.
    """
    needed = 2.0 * views.size
    if views.local_views:
        share = views.local_scale[0]
        side = views.view_size(views.global_views)
        needed = max(needed, side / (math.sqrt(share) if views.placement == "inside" else share))
    return min(math.ceil(needed), MOST_OF_VIEW * views.size)


def _by_size(resolved: Config, given: Config, *, begun: bool = False) -> Config:
    """Encoder, learning rate, decay and length, where they were not given."""
    train, optim, given_weights = resolved.train, resolved.optim, resolved.model.init != "random"
    size, batch = resolved.data.image_size or USUAL_IMAGE, train.batch_size or LARGEST_BATCH
    encoder = resolved.model.encoder or ("small-conv" if size <= LARGEST_FOR_SMALL_CONV else "resnet18")
    rates = {
        "learning_rate": learning_rate(encoder, optim.name, batch, given_weights=given_weights),
        "weight_decay": WEIGHT_DECAY[optim.name],
    }
    length = EPOCHS_FROM_WEIGHTS if given_weights else EPOCHS
    decided = resolved.replace(
        model={"encoder": encoder},
        optim={key: value for key, value in rates.items() if key not in given.optim.model_fields_set},
        train={"epochs": length if train.epochs is None and train.minutes is None else train.epochs},
    )
    return _with_weights(decided) if given_weights and not begun else decided


def _with_weights(config: Config) -> Config:
    """What of a training from given weights was left open; one of an epoch has none for the head alone."""
    model, optim, train = config.model, config.optim, config.train
    rate = optim.learning_rate
    slow = min(rate, BACKBONE_RATE) if optim.name == "adamw" else rate / 10
    first = HEAD_EPOCHS if train.epochs is None else min(HEAD_EPOCHS, max(0, train.epochs - 1))
    return config.replace(
        model={"batch_norm": model.batch_norm or "frozen"},
        optim={"backbone_rate": optim.backbone_rate or slow},
        train={
            "head_epochs": first if train.head_epochs is None else train.head_epochs,
            "load_best": True if train.load_best is None else train.load_best,
        },
    )


def learning_rate(
    encoder: str, optimizer: str = "adamw", batch: int = 256, *, given_weights: bool = False
) -> float:
    """The highest learning rate where none is given; with given weights it is the head's.

    AdamW: LeJEPA's 5e-4 for a ViT; a small network bears more. LARS .2 and SGD .05, times the batch over 256: BYOL and
    SimSiam.
    """
    if optimizer != "adamw":
        return {"lars": 0.2, "sgd": 0.05}[optimizer] * batch / 256
    if given_weights:
        return HEAD_RATE
    if encoder == "small-conv":
        return 2e-3
    return 5e-4 if "vit" in encoder else 1e-3


def _view_side(native: int, *, texture: bool) -> int:
    if texture:
        # A texture is viewed through a window of .7 to .9 of its side: two thirds keep every pixel of it.
        return min(max(16, round(native * 2 / 3 / 8) * 8), USUAL_IMAGE)
    return max(16, native if native <= SMALL_IMAGE else min(native, USUAL_IMAGE))


def _suggest(source: Source, native: int, given: Container[str]) -> Suggestion:
    """What a few hundred images, spread over the source, say about the views that suit them."""
    if source.name.startswith("textures:"):
        return Suggestion("textures", "procedural textures: any rotation is safe.", ())
    stride = max(1, len(source) // LOOKED_AT)
    sample = load_images(source.subset(list(range(0, len(source), stride))), min(native, LOOKED_AT_SIDE))
    return suggest(sample.images, given)


def _largest_batch(config: Config, size: int) -> int:
    large = config.model.init != "random" and size >= LARGE_IMAGE
    return LARGEST_BATCH_OF_LARGE if large else LARGEST_BATCH


def default_batch(count: int, largest: int = LARGEST_BATCH) -> int:
    """The power of two, `largest` at the most, that makes at least ten steps of an epoch; small sets get smaller
    ones.
    """
    batch = largest
    while batch > SMALLEST_BATCH and batch * STEPS_PER_EPOCH > count:
        batch //= 2
    return max(2, min(batch, count))


def check_batch(batch: int, count: int, name: str) -> None:
    """Refuse what no statistic of a batch can be computed from.

    Raises: UsageError if there are fewer than two images, or fewer than one batch of them.
    """
    if count < 2:
        raise UsageError(
            f"{name} has {count} readable image{'s' if count != 1 else ''}: at least 2 are needed, and some hundreds "
            "to learn anything."
        )
    if batch > count:
        raise UsageError(
            f"a batch of {batch} is more than the {count} readable images of {name}: give "
            f"{option('batch_size', default_batch(count))}."
        )
