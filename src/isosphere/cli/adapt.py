"""``isosphere adapt``: a network that has seen millions of images, adapted to these."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import commands, facts, output_console, paragraph
from isosphere.cli.faults import StoppedError
from isosphere.cli.names import together
from isosphere.cli.options import Images, Seed
from isosphere.errors import command, plural

__all__ = ["adapt"]


def adapt(
    data: Images = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="A network of timm.", show_default="tf_efficientnet_lite0")
    ] = None,
    init: Annotated[
        str,
        typer.Option(
            metavar="pretrained|FILE|RUN",
            help="Its weights: timm's, downloaded once, those of a file or a run, or hf-hub:OWNER/NAME.",
        ),
    ] = "pretrained",
    views: Annotated[int, typer.Option(help="Views of each image, 2 or more.")] = 4,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of an image in pixels.", show_default="the network's own, 224 at most"),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Look at so many images, drawn by the seed.")] = 5000,
    seed: Seed = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="How pictures are read, e.g. data.channels=rgb:4,3,2; repeatable.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unreadable images instead of skipping them.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that decode images.")] = 2,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the adapted network in --out.")
    ] = False,
) -> None:
    """Adapt a network that has seen millions of images to yours, without labels.

    isosphere adapt PICTURES --out RUN

    For photographs this is where to begin. The network stays as it is: some views of each image pass through it
    once, and a transformation of its features is fitted to what they differ in, which neighbours should overlook.
    The run is evaluated, embedded, searched and exported as any other. Interrupted, the same command goes on.

    Recommended: tf_efficientnet_lite0 (3 M parameters, fast, supervised on ImageNet), convnext_nano (15 M, some 5
    times slower, supervised on ImageNet-12k) and vit_small_patch14_dinov2 (22 M, some 11 times slower,
    self-supervised); all Apache-2.0.
    """
    from isosphere.workflows import prepare_adaptation, progress_bar

    typed, console = together(data) if data else None, output_console()
    made = prepare_adaptation(
        typed,
        out,
        encoder=encoder,
        init=init,
        views=views,
        image_size=image_size,
        limit=limit,
        seed=seed or 0,
        strict=strict,
        overwrite=overwrite,
        workers=workers,
        sets=set_ or [],
    )
    facts(console, made.facts)
    try:
        if lasts := made.estimate():
            facts(console, {"time": lasts})
        with progress_bar("Views") as progress:
            made.look(progress)
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped by Ctrl-C; the features of {made.done:,} of {plural(len(made.source), 'image')} are kept, and "
            "the same command goes on from there."
        ) from None
    run = made.finish()
    for words, warning in made.closing():
        paragraph(console, words, style="yellow" if warning else "")
    images = {"in_": typed}
    commands(
        console,
        {
            "judge it": command("evaluate", run.folder.path, typed),
            "search": command("search", run.folder.path, "PICTURE", **images),
            "new images": command("update", run.folder.path, "NEW"),
        },
    )
