"""What ``isosphere dedup`` says of what it has found."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.cli.console import error_console, facts, output_console, paragraph, print_json, table
from isosphere.cli.listing import print_csv
from isosphere.errors import command, option, plural, shell

if TYPE_CHECKING:
    from isosphere.deploy import DuplicateGroup, Keep
    from isosphere.workflows import Duplicates, Precision

__all__ = ["check_keep", "print_groups", "say_duplicates", "write_kept"]

LISTED, NAMED = 20, 4


def check_keep(keep: str | None, out: Path | None) -> "Keep | None":
    """The rule of this name; ``first`` where a list is asked for. Raises: UsageError for another."""
    from isosphere.deploy import named_keep

    if keep is None:
        return None if out is None else "first"
    return named_keep(keep)


def print_groups(found: "Duplicates", dropped: set[int] | None) -> None:
    """A row an image of a group as CSV, with whether it is kept where rows to drop were asked for."""
    rows = [
        {"group": number} | member | ({} if dropped is None else {"keep": "no" if row in dropped else "yes"})
        for number, group in enumerate(found, 1)
        for member, row in zip(found.members(group), group.rows, strict=True)
    ]
    several = found.compared.sets is not None
    columns = ["group", "path", *["set"] * several, "similarity", *["keep"] * (dropped is not None)]
    print_csv(rows, columns)


def say_duplicates(
    found: "Duplicates",
    precision: "Precision | None",
    typed: Sequence[object],
    *,
    as_json: bool,
    as_csv: bool,
    cache: bool,
) -> Callable[[str], None]:
    """Print groups and what the threshold rests on; returns what prints a further sentence."""
    from isosphere.cli.apply import indexing_note, listed, say_left_out, say_white
    from isosphere.workflows import precision_in_words

    index, for_programs = found.compared.index, as_json or as_csv
    console = error_console() if for_programs else output_console()

    def say(words: str, style: str = "") -> None:
        paragraph(console, words, style=style)

    if as_json:
        print_json(found.as_dict(precision) | {"left_out": listed(index)})
    elif not as_csv:
        title = f"Copies among {indexing_note(index, cache=cache)}, cosine {found.threshold:.4f} or more"
        rows = [
            [_first(group.paths), str(len(group)), f"{min(group.similarities):.4f}"]
            for group in found[:LISTED]
        ]
        table(console, title, ["images of a group", "count", "lowest cosine"], rows)
        more = f" The first {LISTED} are listed: --json prints all." if len(found) > LISTED else ""
        count = found.repeated
        say(
            f"{plural(len(found), 'group')}; {plural(count, 'image')} "
            f"{'repeats' if count == 1 else 'repeat'} another.{more}"
        )
        facts(console, found.basis)
        if close := found.nearest() if not found else None:
            say(_closest(found, close, typed))
        if found.compared.links:
            say(
                "The same file under another name, by links, left out: "
                f"{plural(found.compared.links, 'image')}."
            )
    if found.in_several_sets:
        say(found.in_several_sets)
    if found.caution:
        say(found.caution, "yellow")
    if precision is not None and not as_json:
        say(precision_in_words(precision))
    say_left_out(index, as_json=for_programs)
    say_white(found.compared.white, as_json=for_programs)
    largest = len(found[0]) if found else 0
    if largest > max(10, len(index) // 4):
        say(
            f"Type a higher {option('threshold')}: the largest group holds {largest:,} of {len(index):,} images. Or "
            f"see whether the encoder has collapsed: {command('evaluate', typed[0], typed[1])}",
            "yellow",
        )
    return say


def write_kept(out: Path, found: "Duplicates", dropped: set[int]) -> str:
    """Write the names of the images that are kept: a list that every command takes as DATA, where they are files."""
    from isosphere.workflows import kept_names, write_list

    names = kept_names(found, dropped)
    write_list(out, names)
    return f"{plural(len(names), 'image')} to keep, {len(dropped):,} to drop. List: {out}"


def _closest(found: "Duplicates", pair: "DuplicateGroup", typed: Sequence[object]) -> str:
    """A sentence on the nearest pair, where no group was found, and what to type to find it."""
    (a, b), cosine = pair.paths, pair.similarities[0]
    lower, layer = math.floor(100 * cosine) / 100, None if found.layer == "backbone" else found.layer
    again = f": {command('dedup', *typed, threshold=lower, layer=layer)}" if lower > -1 else "."
    return f"The nearest pair, {a} and {b}, has cosine {cosine:.3f}{again}"


def _first(paths: tuple[str, ...]) -> str:
    return shell(*paths[:NAMED]) + " ..." * (len(paths) > NAMED)
