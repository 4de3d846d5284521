"""From a configuration to the parts of a run: images, views, method, loader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from isosphere.data import (
    LONGEST,
    ImageSet,
    Loader,
    PictureSet,
    Shapes,
    Source,
    Split,
    ViewRecipe,
    Views,
    White,
    fingerprint,
    linked,
    open_source,
    permutation,
    recipe,
    set_aside,
    survey,
)
from isosphere.devices import generators_kept
from isosphere.errors import RunError, UsageError, command, listing, option
from isosphere.methods import DISTILLATION, FROZEN, METHODS, Frozen, Method, build_method, check_options
from isosphere.models import (
    Encoder,
    build_encoder,
    find_start,
    memory_format,
    require_encoder_name,
    synchronise,
)
from isosphere.runs import tensors_identity
from isosphere.training._beginning import freeze
from isosphere.training._config import Config
from isosphere.training._defaults import (
    EARLIER,
    check_batch,
    resolve,
    resolve_sizes,
    settle_channels,
    settle_mean,
    settle_white,
)
from isosphere.training._deterministic import fixed_workspace
from isosphere.training._distributed import alike
from isosphere.training._facts import (
    check_sizes,
    encoder_fact,
    facts_of,
    first_views,
    looking,
    start_page,
    too_short,
)
from isosphere.training._generators import drawing
from isosphere.training._gradient import check_micro_batch
from isosphere.training._hardware import (
    compile_networks,
    make_fabric,
)
from isosphere.training._monitor import Observer, hold_out
from isosphere.training._precision import measure_precision
from isosphere.training._schedule import GROWTH
from isosphere.training._storage import LoadProgress, in_memory, on_disk

if TYPE_CHECKING:
    from lightning.fabric import Fabric


FINGERPRINT = "fingerprint of the images"
"""The fact by which a checkpoint knows them again."""

Teach = Callable[[Source, int], Tensor]
"""What a teacher says of the images of a source: targets ``(n, dim)``, of so many dimensions."""
_OF_COLOURS = ("saturation", "hue", "grey")
Record = Mapping[str, Any]
"""What ``encoder.json`` says of an encoder."""


@dataclass(frozen=True)
class Parts:
    """All that `fit` takes, and what is worth knowing before it starts."""

    config: Config
    images: ImageSet | PictureSet | Source
    views: Views
    method: Method
    loader: Loader
    fabric: "Fabric"
    observer: Observer | None = None
    facts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    test: Source | None = None
    """The test part of the source, where it has one."""
    fingerprint: str = ""
    """Of the images that were opened: :func:`isosphere.data.fingerprint`."""
    targets: Tensor | None = None
    """What a teacher says of each of the images."""
    advice: tuple[str, ...] = ()
    """What to set that may suit the images better."""

    @property
    def start(self) -> dict[str, str]:
        """What will happen, in five lines; `facts` is the rest."""
        return start_page(self.config, self.images, self.method, self.loader, self.fabric)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be unchanged for a checkpoint to be continued."""
        batch = self.config.train.batch_size or 0
        return {"images": len(self.images), "batch size": batch, FINGERPRINT: self.fingerprint}


def prepare(
    config: Config,
    *,
    source: Source | None = None,
    record: Record | None = None,
    teach: Teach | None = None,
    progress: LoadProgress | None = None,
) -> Parts:
    """Open the data, fill in what the configuration leaves open, and build everything; nothing is written.

    Args:
        source: the images to train on, instead of those that ``data.source`` names; there is no test part then, and
            ``data.source`` is at most a description.
        record: of the encoder of the run that is gone on with: its weights come from the checkpoint, and the file or
            the network that the first ones came from is not needed again.
        teach: asks the teacher, where there is one to learn from.
        progress: called with the numbers of images read and to be read.

    Raises: UsageError in words for anything in data or configuration that cannot be trained on.
    """
    # The first products on a GPU are among what is looked at here.
    with fixed_workspace(config.train.deterministic):
        return _prepare(config, source, record, teach, progress)


def _prepare(
    config: Config,
    source: Source | None,
    record: Record | None,
    teach: Teach | None,
    progress: LoadProgress | None,
) -> Parts:
    _check_names(config, begun=record is not None)
    test = None
    if source is None:
        source = open_training_source(config, settled=False)
        test = open_source(str(config.data.source), split="test") if source.has_test_split else None
    else:
        source = _limited(source, config)
    # A run that is gone on with keeps its pixels, also where an earlier version did not look.
    white, channels, begun = None, None, record is not None
    if begun:
        config = _as_before(config)
    else:
        config, channels = settle_channels(config, source)
        config, white = settle_white(config, source)
    source = source.read_as(config.data.reading)
    test = None if test is None else test.read_as(config.data.reading)
    asked = config.train.head_epochs
    config, suggestion = resolve(config, source, begun=record is not None)
    if record is None and config.model.init != "random":
        # Weights that cannot be had, or do not fit, are named before images are read for minutes.
        build(config)
    train = config.train
    fabric = make_fabric(train.device, train.precision, timeout_minutes=train.timeout_minutes)
    shapes = Shapes.of(source, config.data.canvas_size or 0, channels=config.data.in_chans)
    images, warnings = in_memory(config, source, shapes, progress, fabric)
    config, normalised = (config, None) if begun else settle_mean(config, images)
    source = source.read_as(config.data.reading)
    images = images.read_as(config.data.reading) if isinstance(images, Source) else images
    test = None if test is None else test.read_as(config.data.reading)
    if white is not None and white.caution:
        warnings = (*warnings, white.caution)
    warnings = (*warnings, *filter(None, (set_aside(source), linked(source))))
    print_of = fingerprint(source)
    alike(fabric, {**_flat(config), "the number of images": len(images), f"the {FINGERPRINT}": print_of})
    batch = train.batch_size or 2
    check_batch(batch, len(images), source.name)
    check_micro_batch(batch, train.micro_batch, fabric.world_size)
    config, method = build(config, record)
    config = _check_head(config, method, asked)
    freeze(method, config.model)
    method.to(device=fabric.device).to(memory_format=memory_format(fabric.device))  # type: ignore[call-overload]
    if fabric.world_size > 1:
        synchronise(method)
    method.train()
    views = build_views(config, cast(Encoder, method.encoder))
    images, shown, looked_at = hold_out(config, images, config.model.dim or 2, test=test)
    check_batch(batch, len(images), source.name)
    observer = None if shown is None else Observer(shown.images, views, batch)
    targets = None
    if teach is not None:
        asked_of = images if isinstance(images, Source) else _with_paths(source, images.paths)
        said = teach(asked_of, config.model.dim or 2) if fabric.is_global_zero else None
        targets = cast(Tensor, fabric.broadcast(said)).to(fabric.device)
    cache, kept = on_disk(config, images, shapes, fabric)
    loader = Loader(
        images,
        batch_size=batch,
        size=config.data.canvas_size or 0,
        whole=config.data.whole,
        device=fabric.device,
        seed=train.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        epoch_images=config.data.epoch_images,
        workers=config.data.workers,
        strict=config.data.strict,
        cache=cache,
    )
    first = first_views(views, loader, train.seed, targets)
    seen = first[: views.recipe.views]
    if config.views.progressive:
        for share in GROWTH[:-1]:
            seen = [*seen, *first_views(views.scaled(share), loader, train.seed)]
    check_sizes(method, views, fabric, seen)
    measured = ""
    if train.precision == "auto" and record is None:  # a run that is gone on with keeps its bits
        precision, measured = measure_precision(method, first, fabric)
        config = config.replace(train={"precision": precision})
        fabric = make_fabric(train.device, precision, timeout_minutes=train.timeout_minutes)
    _find_weights(config, method, batch, first, fabric)
    if (hint := too_short(config, method, len(loader))) is not None:
        warnings = (*warnings, hint)
    facts = facts_of(config, images, views, method, fabric, loader, first)
    facts["precision"] += measured
    facts |= about_pixels(config, source, white, channels, normalised) | kept
    if (compiled := compile_networks(method, train.compile, fabric.device)) is not None:
        facts["compiled"] = compiled
    if observer is not None:
        facts["monitor"] = f"after each epoch, {looked_at}"
    if suggestion is not None:
        facts["views"] += f"; {suggestion.reason}"
        if suggestion.cautions:
            facts["advice"] = " ".join(suggestion.cautions)
    made = config, images, views, method, loader, fabric, observer, facts, warnings, test, print_of, targets
    return Parts(*made, () if suggestion is None else suggestion.changes)


def _with_paths(source: Source, paths: list[str]) -> Source:
    """The images of a source that have these names, in their order."""
    places = {path: i for i, path in enumerate(source.paths)}
    return source.subset(np.array([places[path] for path in paths]))


def _as_before(config: Config) -> Config:
    """The configuration of a run that is gone on with: an earlier version cut squares without saying so,
    and had one way with channels.
    """
    data = config.data
    return earlier_options(config).replace(
        data={"crop_from": data.crop_from or "square", "channels": data.channels or EARLIER}
    )


def earlier_options(config: Config) -> Config:
    """The configuration of a run that exists: options that it does not name are those of an earlier version."""
    entry = METHODS.get(config.method.name)
    earlier = {} if entry is None else entry.owner.earlier
    return config.replace(method={"options": {**earlier, **config.method.options}}) if earlier else config


_WHOLE = "random crops are drawn over the whole picture"


def about_pixels(
    config: Config, source: Source, white: White | None, *channels: str | None
) -> dict[str, str]:
    """What was decided about these pictures, in three lines; none where there was nothing to decide."""
    number, found = config.data.white, survey(source)
    said = [] if number is None else [f"{number:g} is white" if white is None else white.reason]
    lines = {
        "pixels": "; ".join(filter(None, [*channels, *said, *found.decided])),
        "seen": found.outside and (_WHOLE if config.data.whole else found.outside),
        "panoramas": _panoramas(Shapes.of(source, config.data.canvas_size or 32))
        if config.data.whole
        else "",
    }
    return {name: line for name, line in lines.items() if line}


def _panoramas(shapes: Shapes) -> str:
    """Of which pictures crops do not reach the ends; empty where there are none."""
    share = shapes.too_long
    return (
        f"{share:.1%} are over {LONGEST} times as long as wide: crops are drawn over their middle"
        if share
        else ""
    )


def _flat(config: Config) -> dict[str, Any]:
    """Every key with its value, dotted."""
    sections = config.as_mapping().items()
    return {f"{section}.{key}": value for section, values in sections for key, value in values.items()}


def prepare_without_images(config: Config) -> tuple[Config, dict[str, str]]:
    """The configuration completed, and every name and option in it checked, where the images are not at hand.

    Raises: UsageError for what cannot be trained with, and for keys that only the images could decide.
    """
    _check_names(config)
    open_keys = {
        "data.image_size": config.data.image_size,
        "views.recipe": config.views.recipe,
        "train.batch_size": config.train.batch_size,
    }
    missing = [key for key, value in open_keys.items() if value is None]
    if missing:
        raise UsageError(
            f"the images would decide {', '.join(missing)}, and they are not there: name a folder of images, give "
            f"{option(missing[0], ...)}, or a {option('preset')} ({listing('presets')})."
        )
    config, method = build(resolve_sizes(config))
    facts = {
        "encoder": encoder_fact(config, method),
        "method": config.method.name,
        **method.describe(),
    }
    return config, facts


def open_training_source(config: Config, split: Split = "train", *, settled: bool = True) -> Source:
    """The training part (or another) of the configured source, or `data.limit` images of it that the seed draws; where
    it is not settled yet that the images have the configured channels, all of these.
    """
    if config.data.source is None:
        example = command("train", "PICTURES", out="RUN")
        raise UsageError(f"no data: name a folder of images, for example: {example}")
    source = _limited(open_source(config.data.source, split=split), config)
    return source.read_as(config.data.reading) if settled else source


def _limited(source: Source, config: Config) -> Source:
    """The source, or `data.limit` images of it that the seed draws."""
    limit = config.data.limit
    if limit is None or limit >= len(source):
        return source
    return source.subset(permutation(len(source), config.train.seed, 0)[:limit].sort().values.numpy())


def build(
    config: Config, record: Record | None = None, state: Mapping[str, Tensor] | None = None
) -> tuple[Config, Method]:
    """Encoder and method as the seed initialises them, with the configuration completed by what the method chose.

    The same configuration gives the same bits, also years later: nothing is drawn from the global generator's state.
    With the `record` of an encoder that very architecture is built, for the weights that a run has kept (`state`), and
    none are read that it began with.
    """
    model, seed = config.model, config.train.seed
    with drawing, generators_kept():
        torch.default_generator.manual_seed(
            seed
        )  # torch.manual_seed would seed those of all accelerators too
        size = config.data.image_size or 32
        encoder = (
            build_encoder(
                model.encoder or "small-conv",
                image_size=size,
                in_chans=config.data.in_chans,
                init=model.init,
                partial=model.partial,
                drop_path=model.drop_path,
            )
            if record is None
            else Encoder.from_spec(record, state)
        )
        if record is None and config.data.mean is not None and config.data.std is not None:
            encoder.mean, encoder.std = config.data.mean, config.data.std
        if encoder.origin is not None:
            encoder.start = tensors_identity(encoder.backbone.state_dict())
        if config.method.name == FROZEN:
            return config, Frozen(encoder)
        method = build_method(
            config.method.name,
            encoder,
            global_views=_recipe(config, encoder).global_views,
            **config.method_options(),
        )
    head = method.head
    chosen = {"dim": getattr(head, "out_dim", model.dim), "hidden": getattr(head, "hidden_dim", model.hidden)}
    options = {**method.chosen, **config.method.options}
    return config.replace(model=chosen, method={"options": options}), method


def untrained(config: Config, record: Record | None = None) -> Method:
    """The method as the seed of its run initialised it, in evaluation mode: what training has to be better than.

    `record`: of the run's encoder, which tells its architecture, and the weights that it was given at first.

    Raises: RunError if the weights that are there now are others; UsageError if there are none.
    """
    config = earlier_options(config)
    method = build(config, record if config.model.init == "random" else None)[1].eval()
    start = (record or {}).get("start")
    if start not in (None, cast(Encoder, method.encoder).start):
        raise RunError(
            f"the weights of {option('init', config.model.init)} are others now than the training began with"
        )
    return method


def build_views(config: Config, encoder: Encoder) -> Views:
    """The views of the configured recipe, normalised as the encoder expects."""
    return Views(_recipe(config, encoder))


def _find_weights(config: Config, method: Method, n: int, first: list[Tensor], fabric: "Fabric") -> None:
    """The weights that are found by a rule, before a checkpoint brings its own. Raises: UsageError in words."""
    try:
        with looking(method, fabric):
            method.prepare(n=n, views=len(first), batch=first)
    except ValueError as error:
        raise UsageError(f"method '{config.method.name}': {error}.") from error


def _check_head(config: Config, method: Method, asked: int | None) -> Config:
    """The configuration, without epochs for the head alone where there is no head to learn.

    Raises: UsageError if such epochs were `asked` for.
    """
    learns = any(p.requires_grad for k, p in method.named_parameters() if not k.startswith("encoder."))
    if learns or not config.train.head_epochs:
        return config
    if asked:
        raise UsageError(
            f"{option('train.head_epochs', asked)}: method '{config.method.name}' has no head that could learn alone: "
            f"leave it out, or choose another {option('method')}."
        )
    return config.replace(train={"head_epochs": 0})


def _recipe(config: Config, encoder: Encoder) -> ViewRecipe:
    fixed: dict[str, Any] = {"mean": tuple(encoder.mean), "std": tuple(encoder.std)}
    channels = config.data.taken
    if channels is not None and not channels.colour.startswith("rgb"):
        asked = [name for name in _OF_COLOURS if config.views.overrides.get(name)]
        if asked:
            raise UsageError(
                f"{option(f'views.{asked[0]}', config.views.overrides[asked[0]])} changes colours, and the channels "
                f"{channels} have none: leave it out, or name the bands that are red, green and blue "
                f"({option('data.channels', 'rgb:1,2,3')})."
            )
        fixed |= dict.fromkeys((*_OF_COLOURS, "solarise"), 0.0)
    return recipe(
        config.views.recipe or "crops", config.data.image_size or 32, **{**fixed, **config.views.overrides}
    )


def _check_names(config: Config, *, begun: bool = False) -> None:
    """Refuse a mistyped method or recipe at once, before images are read for minutes."""
    check_options(config.method.name, config.method_options())
    if config.method.name == DISTILLATION and config.method.distill is None:
        raise UsageError(
            f"{option('method', DISTILLATION)} learns from another network: name it, such as "
            f"{option('distill', 'tf_efficientnet_lite0')}."
        )
    if config.model.encoder is not None:
        require_encoder_name(config.model.encoder)
    if config.model.init not in ("random", "pretrained") and not begun:
        find_start(config.model.init)
    if config.train.wandb is not None and find_spec("wandb") is None:
        raise UsageError("train.wandb needs Weights & Biases: pip install wandb, or leave train.wandb out.")
    recipe(config.views.recipe or "crops", config.data.image_size or 32, **config.views.overrides)
