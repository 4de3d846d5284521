"""``isosphere dedup``: images that are nearly the same."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import error_console, output_console, paragraph, print_json, table
from isosphere.cli.options import LAYERS, Data, NoCache, Overwrite, Run, together
from isosphere.errors import UsageError, command, option, plural

if TYPE_CHECKING:
    from isosphere.deploy import DuplicateGroup

__all__ = ["dedup"]

LISTED, NAMED = 20, 4


def dedup(
    run: Run,
    data: Data,
    threshold: Annotated[float, typer.Option(help="Cosine from which two images are the same.")] = 0.99,
    layer: Annotated[str, typer.Option(metavar="LAYER", help=f"Features to compare: {LAYERS}.")] = "backbone",
    as_json: Annotated[bool, typer.Option("--json", help="Print every group as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) that shows the groups.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Group images that are nearly the same.

    isosphere dedup RUN PICTURES --threshold 0.99 --out duplicates.html

    Images are in one group if a chain of pairs leads from one to the other whose cosine is at least the
    threshold. Nothing is deleted. The right threshold depends on the encoder (with --layer head it is lower):
    look at a page of groups before trusting one.
    """
    from isosphere.cli.apply import (
        check_layer,
        check_page,
        indexed,
        indexing_note,
        listed,
        say_left_out,
        say_white,
    )

    chosen = check_layer(layer)
    check_page(out, (".html",), overwrite=overwrite)
    if not -1 < threshold <= 1:
        raise UsageError(
            f"{option('threshold')}: got {threshold:g}, expected a cosine, above -1 and at most 1."
        )
    import isosphere
    from isosphere.data import open_source
    from isosphere.deploy import near_duplicates, nearest_pair
    from isosphere.runs import RunFolder

    typed = together(data)
    RunFolder.require_first(run, typed, command("dedup", typed, run))
    source = open_source(typed)
    loaded, white = isosphere.load(run, cache=not no_cache).settled(source)
    whole = indexed(loaded, source, chosen)
    index = whole.of_files(source)
    groups = near_duplicates(index.unit, threshold, index.paths)
    nearest = nearest_pair(index.unit, index.paths) if not groups else None
    of = {} if chosen == "backbone" else {"layer": chosen}
    console = output_console()
    extra = sum(len(group) - 1 for group in groups)
    if as_json:
        result = {
            "threshold": threshold,
            "layer": chosen,
            "images": len(index),
            "groups": [_named(group) for group in groups],
            "nearest": None if nearest is None else _named(nearest),
            "left_out": listed(index),
        }
        print_json(result)
    else:
        rows = [
            [_first(group.paths), str(len(group)), f"{min(group.similarities):.4f}"]
            for group in groups[:LISTED]
        ]
        title = f"Groups at cosine {threshold:g} among {indexing_note(index, cache=not no_cache)}"
        table(console, title, ["images", "count", "lowest cosine"], rows)
        more = f" The first {LISTED} are listed: --json prints all." if len(groups) > LISTED else ""
        paragraph(
            console,
            f"{plural(len(groups), 'group')}; {plural(extra, 'image')} {'repeats' if extra == 1 else 'repeat'} another "
            f"one.{more}",
        )
        if nearest is not None:
            a, b = nearest.paths
            cosine = nearest.similarities[0]
            near = math.floor(100 * cosine) / 100
            paragraph(
                console,
                f"The nearest pair, {a} and {b}, has cosine {cosine:.3f}"
                + (f": {command('dedup', run, typed, threshold=near, **of)}" if near > -1 else "."),
            )
        if links := len(whole) - len(index):
            paragraph(
                console, f"The same file under another name, by links, left out: {plural(links, 'image')}."
            )
    say_left_out(index, as_json=as_json)
    say_white(white, as_json=as_json)
    largest = len(groups[0]) if groups else 0
    if largest > max(10, len(index) // 4):
        paragraph(
            error_console() if as_json else console,
            f"The largest group holds {largest:,} of {len(index):,} images: the encoder hardly tells images "
            f"apart at this threshold. Type a higher {option('threshold')}, or look whether it has collapsed: "
            f"{command('evaluate', run, typed)}",
            style="yellow",
        )
    if out is not None:
        from isosphere.cli.drawing import draw_groups

        draw_groups(out, typed, groups, len(index), threshold, loaded.reading)
        paragraph(error_console() if as_json else console, f"Drawn: {out}")


def _named(group: "DuplicateGroup") -> list[dict[str, object]]:
    found = zip(group.paths, group.similarities, strict=True)
    return [{"path": path, "similarity": round(similarity, 6)} for path, similarity in found]


def _first(paths: tuple[str, ...]) -> str:
    return " ".join([*paths[:NAMED], *(["..."] if len(paths) > NAMED else [])])
