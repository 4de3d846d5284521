"""``isosphere update``: new images for a run, compared with those so far and appended."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import commands, facts, output_console, paragraph, print_json, table
from isosphere.cli.faults import StoppedError
from isosphere.cli.listing import AsJson
from isosphere.cli.names import together
from isosphere.cli.options import Overwrite, Run
from isosphere.errors import command, plural

if TYPE_CHECKING:
    from isosphere.workflows import Update, Updating

__all__ = ["update"]

SHOWN = 10


def update(
    run: Run,
    new: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NEW]...",
            help="Images that have come, as for isosphere train.",
            show_default="look through those so far again",
        ),
    ] = None,
    old: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="The images so far.",
            show_default="those of the last update, else of the training",
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Embed all by the network as it is now, and choose the threshold anew."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) of the most foreign new images.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare new images with those so far, and append them: only what is new or has changed is embedded.

    isosphere update RUN NEW

    Network, metric, index, threshold for copies and classifier stay as they are, old vectors to the bit. A permutation
    test tells whether the new images are drawn from what the others are; the most foreign ones are listed. Afterwards
    search, dedup and explore look at all of them where no images are named. Interrupted, the same command goes on.
    """
    from isosphere.cli.apply import check_page, say_left_out
    from isosphere.runs import RunFolder
    from isosphere.workflows import prepare_update

    check_page(out, (".html",), overwrite=overwrite)
    typed, console = together(new) if new else None, output_console()
    RunFolder.require_first(run, typed, command("update", typed, run))
    made = prepare_update(run, typed, old=old, restart=restart)
    if made.unchanged:
        paragraph(console, f"Nothing has changed: {plural(len(made.now), 'image')}, as before.")
        return
    if not as_json:
        facts(console, made.facts)
    if dry_run:
        return
    found = _done(made, as_json)
    if as_json:
        print_json(found.as_dict())
        return
    facts(console, found.verdict)
    if found.foreign:
        table(
            console,
            "The most foreign new images",
            ["image", "distance", "farther than", "nearest so far", "cosine"],
            [
                [
                    *[each.path, f"{each.distance:.3f}", f"{each.beyond:.1%}"],
                    *[each.nearest, f"{each.similarity:.3f}"],
                ]
                for each in found.foreign[:SHOWN]
            ],
        )
    for words, warning in made.closing(found):
        paragraph(console, words, style="yellow" if warning else "")
    say_left_out(found.index, as_json=False)
    if out is not None:
        found.page(out)
        paragraph(console, f"Drawn: {out}")
    commands(console, {"search": command("search", run, "PICTURE"), "look": command("explore", run)})


def _done(made: "Updating", as_json: bool) -> "Update":
    from isosphere.workflows import progress_bar

    try:
        if (lasts := made.estimate()) and not as_json:
            facts(output_console(), {"time": lasts})
        with progress_bar("Embedding") as progress:
            made.embed(progress)
            return made.finish(progress)
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped by Ctrl-C; nothing was recorded yet, what was embedded is kept, and the same command goes on."
        ) from None
