"""``isosphere train``: from images to an encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isosphere.cli.console import counting, facts, output_console, paragraph, shell
from isosphere.cli.processes import start_together, wanted
from isosphere.cli.sitting import follow, run_training
from isosphere.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from isosphere.runs import RunFolder
    from isosphere.training import Config

__all__ = ["train"]

FREE_ON_RESUME = (
    "data.source",
    "data.workers",
    "data.strict",
    "optim.learning_rate",
    "optim.weight_decay",
    "optim.momentum",
    "optim.warmup_epochs",
    "optim.final_fraction",
    "optim.clip",
    "train.epochs",
    "train.minutes",
    "train.precision",
    "train.compile",
    "train.device",  # and train.devices
    "train.nodes",
    "train.timeout_minutes",
    "train.monitor",
    "train.knn_epochs",
    "train.wandb",
    "train.checkpoint_minutes",
    "train.log_steps",
    "train.tensorboard",
    "train.profile",
)
"""Keys that a resumed run may change: they alter how it goes on, not what it is."""


def train(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="A folder of images, a zip of one, an .npz, or a built-in: textures:wood, digits, ...",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default=False)
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="See isosphere list methods.", show_default="kl-vmf")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="See isosphere list encoders.", show_default="by image size")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="random|pretrained|FILE", help="Weights to start from.", show_default="random"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the images; 0 saves the untrained encoder.", show_default="100"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Train for so long instead of a number of epochs.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a step.", show_default="by the data")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of a view in pixels.", show_default="by the data")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", show_default="0")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A paper's recipe, or a measured one; see isosphere list presets.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with any of the keys.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any key, e.g. optim.learning_rate=0.001; repeatable.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unreadable images instead of skipping them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Measure the shares of a step.")] = False,
    devices: Annotated[
        int | None, typer.Option(help="Processes on this host, one a GPU.", show_default="1")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Hosts; see docs/scaling.md.", show_default="1")] = None,
) -> int:
    """Train an encoder on images, without labels.

    isosphere train PICTURES --out RUN

    Views of one image are pulled together while a test of uniformity keeps the embeddings of different images
    spread over the sphere. The run folder can be evaluated, resumed and handed on. Every option is a key of
    the configuration; --dry-run prints them all.
    """
    flags = {
        "data.source": data,
        "data.image_size": image_size,
        "data.strict": strict or None,
        "method.name": method,
        "model.encoder": encoder,
        "model.init": init,
        "train.epochs": epochs,
        "train.minutes": minutes,
        "train.batch_size": batch_size,
        "train.seed": seed,
        "train.profile": profile or None,
        "train.devices": devices,
        "train.nodes": nodes,
    }
    if out is None and not dry_run:
        where = data or "PICTURES"
        raise UsageError(
            "--out is missing: name the folder of the run, for example: "
            f"{shell('isosphere', 'train', where, '--out', 'runs/first')}"
        )
    from isosphere.runs import RunFolder
    from isosphere.training import is_first

    folder = None if out is None else RunFolder(out)
    chosen, note = _configure(folder, resume, config, set_ or [], flags, preset)
    more = None if dry_run else wanted(chosen, devices)
    # Of several processes the first looks after the folder and speaks; other hosts may find it begun.
    if folder is not None and is_first() and not (more and more[1] > 1):
        RunFolder.vacant(folder.path, resume=resume or dry_run)
    if more is not None:
        return start_together(context.obj, *more)
    console = output_console()
    console.quiet = not is_first()
    from isosphere.training import keep_freed_memory, prepare

    keep_freed_memory()
    if dry_run and preset is not None and (why := _absent(chosen)):
        return _print_without_images(console, chosen, why)

    with counting(console, "Reading images") as progress:
        parts = prepare(chosen, progress=progress)
    if note:
        paragraph(console, note)
    for warning in parts.warnings:
        paragraph(console, warning, style="yellow")
    facts(console, parts.facts)
    if dry_run or folder is None:
        _print_config(console, parts.config)
        return 0
    if not is_first():
        return follow(folder, parts)
    return run_training(console, RunFolder.create(folder.path, resume=resume), parts)


def _configure(
    folder: "RunFolder | None",
    resume: bool,
    file: Path | None,
    sets: list[str],
    flags: dict[str, Any],
    preset: str | None,
) -> "tuple[Config, str | None]":
    """The configuration that was asked for, and what there is to say about resuming."""
    from isosphere.training import load_config, parse_config

    if folder is None or not resume or not folder.config.exists():
        note = (
            f"There is no run in {folder.path} yet: starting afresh."
            if resume and folder is not None
            else None
        )
        return load_config(file, sets, flags, preset=preset), note
    if preset is not None:
        raise UsageError(
            f"--preset {preset} is for the start of a run, and {folder.path} holds one with its own settings: leave it "
            "out, or give another --out."
        )
    saved = folder.read_config()
    config = load_config(file, sets, {k: v for k, v in flags.items() if v is not None}, base=saved)
    if not folder.checkpoint.exists():
        return config, f"There is no checkpoint in {folder.path} yet: starting afresh."
    before = _flat(parse_config(saved).as_mapping())
    changed = [(k, before.get(k), v) for k, v in _flat(config.as_mapping()).items() if before.get(k) != v]
    refused = [(k, old, new) for k, old, new in changed if not k.startswith(FREE_ON_RESUME)]
    if refused:
        key, old, new = refused[0]
        raise UsageError(
            f"the run in {folder.path} has {key} = {old}, and now {new} is asked for: that would be another "
            "run. Leave "
            "it out to go on as before, or give another --out."
        )
    said = ", ".join(f"{k} was {old} and is {new}" for k, old, new in changed)
    return config, f"Changed since the start: {said}." if changed else None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _print_config(console: "Console", config: "Config") -> None:
    import yaml

    console.print()
    console.print(
        yaml.safe_dump(config.as_mapping(), sort_keys=False, allow_unicode=True).rstrip(),
        markup=False,
        soft_wrap=True,
    )


def _absent(config: "Config") -> str | None:
    """Why the images that were named, if any, cannot be opened here; None if they can."""
    from isosphere.training import open_training_source

    try:
        open_training_source(config)
    except UsageError as error:
        return str(error)
    return None


def _print_without_images(console: "Console", config: "Config", why: str) -> int:
    from isosphere.training import prepare_without_images

    resolved, known = prepare_without_images(config)
    facts(console, {"data": f"resolved without images: {why}", **known})
    _print_config(console, resolved)
    return 0
