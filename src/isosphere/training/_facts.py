"""What a person should know before a training starts, in plain words; some of it from one batch."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from isosphere.data import Batch, ImageSet, Loader, PictureSet, Source, Views
from isosphere.devices import send
from isosphere.errors import UsageError, command, option, plural
from isosphere.methods import METHODS, Method, by_size
from isosphere.models import Encoder, evaluation_mode
from isosphere.training._config import Config, TrainConfig
from isosphere.training._gradient import pieces_of
from isosphere.training._hardware import explain_precision, precision_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def facts_of(
    config: Config,
    images: ImageSet | PictureSet | Source,
    views: Views,
    method: Method,
    fabric: "Fabric",
    loader: Loader,
    first: list[Tensor],
) -> dict[str, str]:
    """What a person should know before the start, in plain words; `first`: the views of the first step."""
    made, origin = views.recipe, config.data.source or images.name
    train = config.train
    short = " on the short side" if config.data.whole and not isinstance(images, ImageSet) else ""
    local = f", {made.local_views} local of {made.local_size} px" if made.local_views else ""
    length = (
        f"{plural(train.minutes, 'minute')}, an epoch is"
        if train.minutes is not None
        else f"{plural(train.epochs or 0, 'epoch')} of"
    )
    return {
        "data": f"{len(images):,} images of {config.data.canvas_size} px{short} from {origin}, {_kept(images, loader)}",
        "views": f"{config.views.recipe}: {made.global_views} of {made.size} px{local}"
        + ", from half to all of that (progressive)" * config.views.progressive,
        "encoder": encoder_fact(config, method),
        **beginning_facts(config),
        "method": config.method.name,
        **_method_facts(method, fabric, first),
        **_pieces_fact(train.batch_size, train.micro_batch),
        "length": f"{length} {plural(len(loader), 'step')} of {train.batch_size} images, seed {train.seed}",
        **({"ranks": f"{fabric.world_size}, batch norm over all of them"} if fabric.world_size > 1 else {}),
        "precision": explain_precision(precision_of(fabric), fabric.device),
        **_deterministic_fact(train.deterministic, fabric.device),
    }


def _deterministic_fact(asked: bool, device: torch.device) -> dict[str, str]:
    if not asked:
        return {}
    cost = "" if device.type == "cpu" else "; convolutions and sums by index are slower for it"
    return {"deterministic": f"the same bits each time, with this machine and these versions{cost}"}


def start_page(
    config: Config, images: ImageSet | PictureSet | Source, method: Method, loader: Loader, fabric: "Fabric"
) -> dict[str, str]:
    """What will happen, in few words."""
    train, made, steps = config.train, config.method.name, len(loader)
    encoder = cast(Encoder, method.encoder)
    parameters = sum(p.numel() for p in encoder.parameters()) / 1e6
    weights = (
        "random weights"
        if config.model.init == "random"
        else f"weights: {encoder.origin or config.model.init}"
    )
    whole = (
        f"{plural(train.minutes, 'minute')}, epochs of {plural(steps, 'step')}"
        if train.minutes is not None
        else f"{plural(train.epochs or 0, 'epoch')} of {plural(steps, 'step')} ({steps * (train.epochs or 0):,})"
    )
    ranks = f"{fabric.world_size} processes, " if fabric.world_size > 1 else ""
    return {
        "data": f"{len(images):,} images of {config.data.canvas_size} px from {config.data.source or images.name}, "
        f"{_kept(images, loader)}",
        "network": f"{config.model.encoder}, {parameters:.1f} M parameters, {weights}",
        "method": f"{made}: {method.in_words or METHODS[made].summary} (views: {config.views.recipe})",
        "training": f"{whole}, {train.batch_size} images each, {ranks}{train.precision} on {_place(fabric.device)}",
    }


def _kept(images: ImageSet | PictureSet | Source, loader: Loader) -> str:
    if not isinstance(images, Source):
        return "in memory"
    return "decoded as needed" if loader.cache is None else "decoded once, kept on the disk"


def _place(device: torch.device) -> str:
    return {"cpu": "the CPU", "cuda": "the GPU", "mps": "the Apple GPU"}.get(device.type, device.type)


def encoder_fact(config: Config, method: Method) -> str:
    """The encoder, its size, and what weights it has begun with."""
    encoder = cast(Encoder, method.encoder)
    parameters = sum(p.numel() for p in encoder.parameters())
    return (
        f"{config.model.encoder}, {parameters / 1e6:.1f} M parameters, {encoder.origin or config.model.init}"
    )


def beginning_facts(config: Config) -> dict[str, str]:
    """How given weights are trained on, and what to expect of it."""
    model, optim, train = config.model, config.optim, config.train
    if model.init == "random":
        return {}
    first = f"the head alone for {plural(train.head_epochs, 'epoch')}, then " if train.head_epochs else ""
    still = f"; the first {plural(model.freeze, 'stage')} stay as they are" if model.freeze else ""
    decay = f", a layer {optim.layer_decay:g} times that of the next" if optim.layer_decay < 1 else ""
    said = {
        "from weights": f"{first}the backbone at {optim.backbone_rate or optim.learning_rate:g}{decay}, the rest at "
        f"{optim.learning_rate:g}; batch norm of the backbone {model.batch_norm or 'train'}{still}"
    }
    if train.load_best:
        said["expect"] = (
            "little from photographs, some points from others: where no later weights are better on views "
            "of held-out images, the run keeps those that it began with. Quicker, and seldom worse for photographs: "
            f"{command('adapt', config.data.source or 'PICTURES', out='RUN')}"
        )
    return said


def _pieces_fact(batch: int | None, micro_batch: int | None) -> dict[str, str]:
    if (pieces := pieces_of(batch, micro_batch)) == 1:
        return {}
    said = f"{pieces} of {micro_batch} images; the loss is that of all {batch}, batch norm that of a piece"
    return {"pieces": said}


def first_views(views: Views, loader: Loader, seed: int, targets: Tensor | None = None) -> list[Tensor]:
    """What the method is given at the first step."""
    batch = next(iter(loader.epoch(0)))
    return taught(views(batch.images, index=batch.index, epoch=0, seed=seed), targets, batch)


def taught(views: list[Tensor], targets: Tensor | None, batch: Batch) -> list[Tensor]:
    """The views of a batch and, where there are targets ``(images, d)``, last what a teacher says of each image."""
    if targets is None:
        return views
    return [*views, targets[send(batch.index, targets.device), :, None, None]]


@contextmanager
def looking(method: Method, fabric: "Fabric") -> Iterator[None]:
    """Within the block: the method as it trains, but that nothing is changed. Raises: UsageError if memory runs out."""
    try:
        with evaluation_mode(method), fabric.autocast():
            method.train()
            yield
    except torch.OutOfMemoryError:
        raise UsageError(
            f"a batch does not fit into memory: give a smaller {option('batch_size')}."
        ) from None


def check_sizes(method: Method, views: Views, fabric: "Fabric", first: list[Tensor]) -> None:
    """Refuse a network that cannot take the views. Raises: UsageError in words."""
    with looking(method, fabric):
        method.eval()
        for same in by_size(first):
            _check_size(method, same[0][:2], views)


def _method_facts(method: Method, fabric: "Fabric", first: list[Tensor]) -> Mapping[str, str]:
    """The method's own facts from one batch, leaving no trace."""
    with looking(method, fabric):
        return method.describe(first)


def _check_size(method: Method, view: Tensor, views: Views) -> None:
    try:
        method.embed(view)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # networks raise nearly anything on a size that is not theirs
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        first, size = first.rstrip("."), view.shape[-1]
        settings = {views.recipe.local_size: "views.local_size", views.recipe.size: "data.image_size"}
        own = cast(Encoder, method.encoder).own_size
        made = f"; it was made for {own} px" if own not in (None, size) else ""
        raise UsageError(
            f"the encoder cannot take images of {size} px ({first}{made}): "
            + (
                f"give another {option(settings[size], ...)}"
                if size in settings
                else f"leave {option('views.progressive', True)} out"
            )
            + f" or choose another {option('encoder')}."
        ) from error


FEWEST = 100
"""Steps below which no method has learned anything to speak of, at any batch (docs/decisions.md)."""


ENOUGH = 1000
"""Steps that most folders need, and that are advised to a training of fewer."""


def least_steps(method: Method) -> int:
    """Steps that a training needs at the least before its encoder is worth judging."""
    return max(FEWEST, method.least_steps)


def lengthened(train: TrainConfig, *, steps: int, epoch: int) -> dict[str, int]:
    """The option, and its value, that makes a training twice as long, and :data:`ENOUGH` steps at the least.

    Args:
        steps: that it had, or would have; 0: not known. epoch: steps of an epoch; 0: not known.
    """
    if train.minutes:
        return {"minutes": math.ceil(train.minutes * max(2.0, ENOUGH / steps if steps else 0.0))}
    return {"epochs": max(2 * (train.epochs or 0), math.ceil(ENOUGH / epoch) if epoch else 100)}


def too_short(config: Config, method: Method, epoch: int) -> str | None:
    """What to say of a training that ends before its method has begun; one in minutes cannot be known beforehand."""
    steps, least = (config.train.epochs or 0) * epoch, least_steps(method)
    if not 0 < steps < least or config.train.load_best:  # then nothing is lost
        return None
    more = " ".join(option(*each) for each in lengthened(config.train, steps=steps, epoch=epoch).items())
    needs = f"needs about {plural(least, 'step')}"
    if method.least_steps:
        return (
            f"Give {more} or more, or take {option('method', method.spread_form)}, which learns from the start: "
            f"{config.method.name} {needs} before it tells images apart, and this training has {steps:,}."
        )
    return (
        f"Give {more} or more: most folders need {ENOUGH:,} steps, any method {needs} to learn something, and this "
        f"training has {steps:,}."
    )
