"""What ``isosphere update`` does between its first words and its last."""

from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.cli.console import facts, output_console, paragraph, table
from isosphere.cli.faults import StoppedError
from isosphere.errors import plural

if TYPE_CHECKING:
    from isosphere.workflows import Update, Updating

__all__ = ["carried_out", "say_time", "say_update"]

SHOWN = 10
"""Of the most foreign images."""


def say_time(made: "Updating") -> None:
    """Print how long an update will take, where it takes any time."""
    if lasts := made.estimate():
        facts(output_console(), {"time": lasts})


def carried_out(made: "Updating", for_programs: bool) -> "Update":
    """Embed, compare and record, with the time that it will take and a bar."""
    from isosphere.workflows import progress_bar

    try:
        if not for_programs:
            say_time(made)
        with progress_bar("Embedding") as progress:
            made.embed(progress)
            return made.finish(progress)
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped by Ctrl-C; nothing was recorded yet, what was embedded is kept, and the same command goes on."
        ) from None


def say_update(made: "Updating", found: "Update | None", out: Path | None) -> None:
    """Print what an update has found."""
    from isosphere.cli.apply import say_left_out

    console = output_console()
    if found is None:
        paragraph(console, f"Nothing has changed: {plural(len(made.index), 'image')}, as before.")
        return
    facts(console, found.verdict)
    columns = ["image", "distance", "farther than", "nearest so far", "cosine"]
    rows = [
        [each.path, f"{each.distance:.3f}", f"{each.beyond:.1%}", each.nearest, f"{each.similarity:.3f}"]
        for each in found.foreign[:SHOWN]
    ]
    if rows:
        table(console, "The most foreign new images", columns, rows)
    for words, warning in made.closing(found):
        paragraph(console, words, style="yellow" if warning else "")
    say_left_out(found.index, as_json=False)
    if out is not None:
        paragraph(console, f"Drawn: {out}")
