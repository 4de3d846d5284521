"""From what a person gives, keywords or flags, to the configuration of a training, new or resumed."""

import math
import multiprocessing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isosphere.errors import ABBREVIATED, RunError, UsageError, command, nearest, option, plural
from isosphere.methods import FROZEN
from isosphere.models import EncoderRecord
from isosphere.runs import RunFolder
from isosphere.training import (
    FLAGS,
    Config,
    device_is_there,
    duration,
    is_launched,
    known_keys,
    launched,
    load_config,
    parse_config,
    read_position,
)

FREE_ON_RESUME = (
    "data.source",
    "data.workers",
    "data.strict",
    "optim.learning_rate",
    "optim.backbone_rate",
    "optim.weight_decay",
    "optim.momentum",
    "optim.warmup_epochs",
    "optim.final_fraction",
    "optim.clip",
    "train.epochs",
    "train.minutes",
    "train.precision",
    "train.threads",
    "train.compile",
    "train.deterministic",
    "train.device",  # and train.devices
    "train.nodes",
    "train.max_restarts",
    "train.timeout_minutes",
    "train.monitor",
    "train.knn_epochs",
    "train.load_best",
    "train.wandb",
    "train.checkpoint_minutes",
    "train.log_steps",
    "train.tensorboard",
    "train.profile",
)
"""Keys that a resumed run may change: they alter how it goes on, not what it is."""

MOVES_BITS = tuple(
    f"train.{key}" for key in ("precision", "threads", "compile", "deterministic", "device", "nodes")
)
"""Those of them by which the same arithmetic is done in another way."""

OTHER_BITS = "an uninterrupted run would have had other bits"


def configure(
    flags: Mapping[str, Any],
    folder: RunFolder | None = None,
    *,
    resume: bool = False,
    file: str | Path | None = None,
    sets: Iterable[str] = (),
    preset: str | None = None,
) -> tuple[Config, str | None]:
    """The configuration that was asked for, and what there is to say about resuming.

    `flags` and `sets` as of :func:`isosphere.training.load_config`; a run in `folder` that is resumed is where they
    start from.

    Raises: UsageError for what cannot be, or would make another run of the one that is resumed.
    """
    if folder is None or not resume or not folder.config.exists():
        note = f"There is no run in {folder.path} yet: starting afresh." if resume and folder else None
        return load_config(file, sets, flags, preset=preset), note
    if preset is not None:
        raise UsageError(
            f"{option('preset', preset)} is for the start of a run, and {folder.path} holds one with its own settings: "
            f"leave it out, or give another {option('out')}."
        )
    saved = folder.read_config()
    if saved.get("method", {}).get("name") == FROZEN:
        raise UsageError(
            f"{folder.path} holds a network that was adapted, not trained: there is nothing to go on with. Give "
            f"another {option('out')}, or begin from its weights: {option('init', folder.encoder)}."
        )
    config = load_config(file, sets, flags, base=saved)
    if not folder.checkpoint.exists():
        if folder.encoder.exists() and _steps(folder) > 0:
            raise UsageError(
                f"{folder.path} holds a trained encoder and no checkpoint to go on from: a training would begin anew "
                f"and replace it. Begin from its weights in another folder: "
                f"{option('init', folder.encoder)} with another {option('out')}."
            )
        return config, f"There is no checkpoint in {folder.path} yet: starting afresh."
    before = flat(parse_config(saved).as_mapping())
    changed = [(k, before.get(k), v) for k, v in flat(config.as_mapping()).items() if before.get(k) != v]
    refused = [(k, old, new) for k, old, new in changed if not k.startswith(FREE_ON_RESUME)]
    if refused:
        key, old, new = refused[0]
        raise UsageError(
            f"the run in {folder.path} has {key} = {old}, and now {new} is asked for: that would be another run. Leave "
            f"it out to go on as before, or give another {option('out')}."
        )
    if any(key in ("train.epochs", "train.minutes") for key, *_ in changed):
        _require_longer(config, folder)
    if not changed:
        return config, None
    said = ", ".join(f"{k} was {old} and is {new}" for k, old, new in changed)
    moved = f": {OTHER_BITS}" if any(k.startswith(MOVES_BITS) for k, *_ in changed) else ""
    return config, f"Changed since the start: {said}{moved}."


def require_stored(config: Config, folder: RunFolder) -> None:
    """Refuse a device, or a precision that needs one, that the run was begun with and this machine has not: what was
    typed now is not at fault. Raises: UsageError.
    """
    device, precision = config.train.device, config.train.precision
    before, kept, instead = folder.read_config().get("train", {}), [], {}
    if before.get("device") == device and not device_is_there(device):
        kept, instead = [f"train.device = {device}"], {"train.device": "auto"}
    on_cuda = device in ("auto", "cuda") and device_is_there("cuda")
    if before.get("precision") == precision == "fp16" and not on_cuda:
        kept, instead = [*kept, "train.precision = fp16"], instead | {"train.precision": "float32"}
    if kept:
        needed = "such a device" if "train.device" in instead else "a CUDA GPU"
        raise UsageError(
            f"the run in {folder.path} was begun with {' and '.join(kept)}, and there is not {needed} here. To go on "
            f"all the same, with other bits, give {' '.join(option(*each) for each in instead.items())}."
        )


def _require_longer(config: Config, folder: RunFolder) -> None:
    """Raises: UsageError for a length that the run has left behind."""
    train, at = config.train, read_position(folder.checkpoint)
    whole = at.epoch + (at.batch > 0)
    if train.minutes is None and (train.epochs or 0) < whole:
        lasted, asked, more = (
            plural(whole, "epoch"),
            option("epochs", train.epochs),
            option("epochs", 2 * whole),
        )
    elif train.minutes is not None and 60 * train.minutes < at.elapsed:
        lasted = duration(at.elapsed)
        asked, more = option("minutes", train.minutes), option("minutes", math.ceil(at.elapsed / 30))
    else:
        return
    raise UsageError(
        f"the run in {folder.path} has been trained for {lasted}, and {asked} asks for less: what is learned is not "
        f"taken back. Give more, such as {more}, or leave it out."
    )


def nothing_left(config: Config, folder: RunFolder) -> str | None:
    """What there is to say where a run that is resumed has reached its end, and all of it is written; else None."""
    if not folder.checkpoint.exists() or config.data.source != folder.read_config()["data"].get("source"):
        return None
    train, at = config.train, read_position(folder.checkpoint)
    if at.step == 0 or not _is_whole(folder, at.step):
        return None
    if train.minutes is None:
        done = at.epoch >= (train.epochs or 0)
        lasted, more, counted = plural(at.epoch, "epoch"), {"epochs": 2.0 * at.epoch}, ""
    else:
        done = at.elapsed * (1 + 1 / at.step) >= 60 * train.minutes  # a further step would be too much
        lasted, more = duration(at.elapsed), {"minutes": 2 * train.minutes}
        counted = ", counted from the beginning"
    longer = command("train", config.data.source or "DATA", out=folder.path, resume=True, **more)
    return f"{folder.path} is already trained for {lasted}; for more{counted}: {longer}" if done else None


def _is_whole(folder: RunFolder, step: int) -> bool:
    """Whether everything that a training leaves at its end is there, and of this step."""
    if not all(file.exists() for file in (folder.encoder, folder.encoder_spec, folder.method)):
        return False
    try:
        _, spec = folder.read_encoder()
        folder.read_method(step=step)
        return spec.get("step") == step and folder.read_wccn() is not None
    except RunError:
        return False


def _steps(folder: RunFolder) -> int:
    """The steps of training behind the encoder of a run."""
    return EncoderRecord.parse(folder.read_spec(), folder.encoder_spec).step


def require_out(out: str | Path | None, data: object = None, verb: str = "train") -> None:
    """Raises: UsageError where no folder is named for the run."""
    if out is None or not str(out):
        named = data if isinstance(data, (str, Path)) else "PICTURES"
        raise UsageError(
            f"{option('out')} is {'missing' if out is None else 'empty'}: name the folder of the run, for example: "
            f"{command(verb, named, out='runs/first')}"
        )


def check_processes(config: Config, asked: int | None) -> tuple[int, int] | None:
    """Processes here and hosts that are still to be started; None for one process, or where they have been.

    Raises: UsageError for another number of devices than a launcher has started, or than there are.
    """
    train = config.train
    if is_launched():
        here, _ = launched()
        if asked is not None and asked != here:
            raise UsageError(
                f"{option('devices', asked)}: a launcher (torchrun or srun) has started {here} processes on this host. "
                f"Leave {option('devices')} out."
            )
        return None
    devices, nodes = train.devices or 1, train.nodes or 1
    if devices * nodes == 1 and not train.max_restarts:
        return None
    if nodes > 1 and train.max_restarts:
        raise UsageError(
            f"{option('max_restarts', train.max_restarts)}: several hosts are started again by torchrun alone: "
            f"torchrun --nnodes {nodes} --nproc-per-node {devices} --max-restarts {train.max_restarts} --rdzv-backend "
            "c10d --rdzv-endpoint FIRST_HOST:29500 -m isosphere train ..., without --devices and --nodes."
        )
    import torch

    found = torch.cuda.device_count() if train.device in ("auto", "cuda") else 0
    if found and devices > found:
        raise UsageError(
            f"{option('devices', devices)}: this host has {found} GPUs. Type {option('devices', found)}."
        )
    if train.batch_size is not None and train.batch_size % (devices * nodes):
        fitting = max(1, round(train.batch_size / (devices * nodes))) * devices * nodes
        raise UsageError(
            f"a batch of {train.batch_size} cannot be shared equally by {devices * nodes} processes: type "
            f"{option('batch_size', fitting)}."
        )
    return devices, nodes


# --- keywords of Python -------------------------------------------------------------------------------------------


def dotted(
    flags: Mapping[str, Any], sections: Mapping[str, Any], keys: Mapping[str, Any], base: Any
) -> tuple[dict[str, Any], list[str]]:
    """Keywords as `flags` and `sets` of :func:`configure`: those of `base`, a whole configuration, yield to the others.

    Raises: UsageError for a setting that is given twice, or a section that is no mapping.
    """
    if isinstance(base, Config):
        base = base.as_mapping()
    found = {key: value for key, value in flat(base or {}).items() if value is not None}
    own: dict[str, str] = {}

    def put(key: str, value: Any, by: str) -> None:
        if not isinstance(key, str):
            raise UsageError(f"{by} has the key {key!r}; expected names of settings, such as data.limit.")
        if key in own:
            raise UsageError(f"{key} is given twice, by {own[key]} and by {by}: leave one of them out.")
        own[key], found[key] = by, _plain(value)

    for name, value in flags.items():
        if isinstance(value, Mapping):  # data and method are settings as well as sections
            sections = {**sections, name: value}
        elif value is not None:
            put(FLAGS[name], value, f"{name}=")
    for section, values in sections.items():
        if not isinstance(values, Mapping):
            raise UsageError(f"{section}: got {values!r}, expected a mapping of its keys.")
        for key, value in values.items():
            put(f"{section}.{key}", value, f"{section}={{...}}")
    for key, value in keys.items():
        put(key, value, "set={...}")
    empty = [key for key, value in found.items() if value is None]
    return {key: value for key, value in found.items() if value is not None}, [f"{k}=null" for k in empty]


def refuse_unknown(sections: Mapping[str, Any], keywords: Iterable[str]) -> None:
    """Raises: UsageError for a keyword that is neither a setting nor a section, with the nearest one."""
    for name, value in sections.items():
        if name in Config.model_fields:
            continue
        keys = [key for key in known_keys() if key.split(".")[1] == ABBREVIATED.get(name, name)]
        hint = (
            f" Did you mean {option(keys[0], value)}?"
            if keys
            else nearest(name, [*keywords, *Config.model_fields])
        )
        raise UsageError(
            f"There is no keyword '{name}'.{hint} Sections of the configuration: {', '.join(Config.model_fields)}."
        )


def safe_workers(config: Config) -> Config:
    """No worker processes where Python starts them by running the program again, unless they were asked for."""
    started = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if started == "fork" or "workers" in config.data.model_fields_set:
        return config
    return config.replace(data={"workers": 0})


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _plain(value: Any) -> Any:
    """A number of numpy or torch, or a path, as the configuration takes it."""
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
