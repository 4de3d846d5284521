"""``isosphere train``: from images to an encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli import options
from isosphere.cli.console import facts, output_console, paragraph, text
from isosphere.cli.names import together

if TYPE_CHECKING:
    from rich.console import Console

    from isosphere.training import Config

__all__ = ["train"]


def train(
    context: typer.Context,
    data: options.Images = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default=False)
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="See isosphere list methods.", show_default="kl-vmf")
    ] = None,
    discrepancy: options.Discrepancy = None,
    ema: options.Ema = None,
    encoder: Annotated[
        str | None, typer.Option(help="See isosphere list encoders.", show_default="by image size")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="random|pretrained|PATH|hf-hub:NAME", help="Weights to start from.", show_default="random"
        ),
    ] = None,
    distill: options.Distill = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the images; 0 saves the untrained encoder.", show_default="100"),
    ] = None,
    minutes: options.Minutes = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a step.", show_default="by the data")
    ] = None,
    image_size: options.ImageSize = None,
    seed: options.Seed = None,
    preset: options.Preset = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with any of the keys.", show_default=False)
    ] = None,
    set_: options.Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unreadable images instead of skipping them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    verbose: options.Verbose = False,
    profile: Annotated[bool, typer.Option("--profile", help="Measure the shares of a step.")] = False,
    devices: options.Devices = None,
    nodes: options.Nodes = None,
    max_restarts: options.MaxRestarts = None,
) -> int:
    """Train an encoder on images, without labels.

    isosphere train PICTURES --out RUN

    Views of one image are pulled together while a test of uniformity keeps the embeddings of different images
    spread over the sphere. The run folder can be evaluated, resumed and handed on. Every option is a key of
    the configuration; --dry-run prints them all.
    """
    given = {name: value or None if isinstance(value, bool) else value for name, value in locals().items()}
    given["data"] = together(data) if data else None
    from isosphere.runs import RunFolder
    from isosphere.training import end_with_launcher, is_first, keep_freed_memory, restarts
    from isosphere.workflows import (
        FLAGS,
        check_processes,
        configure,
        nothing_left,
        prepare_training,
        progress_bar,
        require_out,
        resolve_without_images,
    )

    end_with_launcher()
    resume = resume or restarts()[0] > 0
    if not dry_run:
        require_out(out, given["data"])
    folder = RunFolder(out or "untrained")
    flags = {key: given[name] for name, key in FLAGS.items() if name in given}
    asked, note = configure(
        flags, folder if out else None, resume=resume, file=config, sets=set_ or [], preset=preset
    )
    more = None if dry_run else check_processes(asked, devices)
    # Of several processes the first looks after the folder and speaks; other hosts may find it begun.
    if out is not None and is_first() and not (more and more[1] > 1):
        RunFolder.vacant(out, resume=resume or dry_run)
    if resume and not dry_run and (done := nothing_left(asked, folder)):
        if is_first():
            paragraph(output_console(), done)
        return 0
    if more is not None:
        from isosphere.cli.processes import start_together

        return start_together(context.obj, *more, asked.train.max_restarts)
    console = output_console()
    console.quiet = not is_first()
    keep_freed_memory()
    if dry_run and preset is not None and (known := resolve_without_images(asked)) is not None:
        facts(console, known[1])
        return _print_config(console, known[0])
    with progress_bar("Reading images", is_first()) as progress:
        training = prepare_training(asked, folder, resume=resume, note=note, progress=progress)
    for words, style in [(note or "", ""), *((warning, "yellow") for warning in training.warnings)]:
        if words:
            paragraph(console, words, style=style)
    facts(console, training.facts if verbose else training.start)
    if dry_run:
        return _print_config(console, training.config)
    from isosphere.cli.progress import run_training

    return run_training(console, training, verbose=verbose)


def _print_config(console: "Console", config: "Config") -> int:
    import yaml

    console.print()
    shown = yaml.safe_dump(config.as_mapping(), sort_keys=False, allow_unicode=True).rstrip()
    console.print(text(shown, lines=True), soft_wrap=True)
    return 0
