"""``isosphere update``: new images for a run, compared with those so far and appended."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from isosphere.cli.console import commands, facts, output_console, paragraph, print_json
from isosphere.cli.listing import AsCsv, AsJson, check_form, print_csv
from isosphere.cli.names import together
from isosphere.cli.options import Overwrite, Run
from isosphere.errors import command

__all__ = ["update"]


def update(
    run: Run,
    new: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NEW",
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
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Then make a new version beside the run: its metric fitted to all images."
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --refit, of a run that was trained: go on for so long.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done and how long it takes; nothing is recorded."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) of the most foreign new images.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Compare new images with those so far, and append them: only what is new or has changed is embedded.

    isosphere update RUN NEW

    Network, metric, index, threshold for copies and classifier stay as they are, old vectors to the bit. A permutation
    test tells whether the new images are drawn from what the others are; the most foreign ones are listed. Afterwards
    search, dedup and explore look at all of them where no images are named; --csv has all new ones. Interrupted, the
    same command goes on.

    With --refit (of a run that was trained: --epochs N) a new version RUN@2 is made beside the run, which stays as it
    is, and it is said what changes.
    """
    from isosphere.cli.apply import check_page
    from isosphere.cli.updates import carried_out, say_time, say_update
    from isosphere.runs import RunFolder
    from isosphere.workflows import check_refit, load, next_version, prepare_update
    from isosphere.workflows import refit as make_version

    for_programs = check_form(as_json, as_csv)
    check_page(out, (".html",), overwrite=overwrite)
    typed, console = together(new) if new else None, output_console()
    RunFolder.require_first(run, typed, command("update", typed, run))
    loaded, anew = load(run), refit or epochs is not None
    if anew:
        check_refit(loaded, epochs)
    made = prepare_update(loaded, typed, old=old, restart=restart)
    if dry_run or not (made.unchanged or for_programs):
        facts(console, made.facts)
    if dry_run:
        say_time(made)
        return
    found = None if made.unchanged else carried_out(made, for_programs)
    if found is not None and out is not None:
        found.page(out)
    if not for_programs:
        say_update(made, found, out)
        if anew:
            paragraph(console, f"Makes {next_version(loaded.folder.path)} of them; {run} stays as it is.")
    version = make_version(loaded, epochs=epochs, progress=not for_programs) if anew else None
    if as_json:
        more = {} if version is None else {"version": version.as_dict()}
        print_json((_as_before(len(made.index)) if found is None else found.as_dict()) | more)
    if as_csv:
        rows = [] if found is None else [asdict(each) for each in found.foreign]
        print_csv(rows, ["path", "distance", "beyond", "nearest", "similarity"])
    if for_programs:
        return
    if version is not None:
        facts(console, version.facts)
        run = version.run.folder.path
    next_steps = {"search": command("search", run, "PICTURE"), "look": command("explore", run)}
    commands(console, next_steps | {"hand on": command("bundle", run, out="FOLDER")})


def _as_before(images: int) -> dict[str, Any]:
    """For JSON, where nothing has changed."""
    return {"images": images, "kept": images, "new": [], "changed": [], "removed": []}
