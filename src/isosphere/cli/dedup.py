"""``isosphere dedup``: images that are nearly the same."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import NoCache, error_console, output_console, paragraph, table
from isosphere.errors import UsageError

if TYPE_CHECKING:
    from isosphere.deploy import DuplicateGroup, Index

__all__ = ["dedup"]

LISTED, DRAWN, CARDS = 20, 200, 24


def dedup(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Images, as for isosphere train.", show_default=False)
    ],
    threshold: Annotated[float, typer.Option(help="Cosine from which two images are the same.")] = 0.99,
    layer: Annotated[
        str, typer.Option(metavar="backbone|views|head", help="Features to compare.")
    ] = "backbone",
    as_json: Annotated[bool, typer.Option("--json", help="Print every group as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) that shows the groups.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    no_cache: NoCache = False,
) -> None:
    """Group images that are nearly the same.

    isosphere dedup RUN PICTURES --threshold 0.99 --out duplicates.html

    Images are in one group if a chain of pairs leads from one to the other whose cosine is at least the
    threshold. Nothing is deleted. The right threshold depends on the encoder (with --layer head it is lower):
    look at a page of groups before trusting one.
    """
    from isosphere.cli.apply import check_layer, check_page, indexed, indexing_note

    chosen = check_layer(layer)
    check_page(out, (".html",), overwrite=overwrite)
    if not -1 < threshold <= 1:
        raise UsageError(f"--threshold: got {threshold:g}, expected a cosine, above -1 and at most 1.")
    import isosphere
    from isosphere.deploy import near_duplicates

    index = indexed(isosphere.load(run, cache=not no_cache), data, chosen)
    groups = near_duplicates(index.unit, threshold)
    console = output_console()
    extra = sum(len(group) - 1 for group in groups)
    if as_json:
        result = {
            "threshold": threshold,
            "layer": layer,
            "images": len(index),
            "groups": [_named(group, index) for group in groups],
        }
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        rows = [
            [" ".join(_names(group, index, 4)), str(len(group)), f"{min(group.similarities):.4f}"]
            for group in groups[:LISTED]
        ]
        title = f"Groups at cosine {threshold:g} among {indexing_note(index, cache=not no_cache)}"
        table(console, title, ["images", "count", "lowest cosine"], rows)
        more = f" The first {LISTED} are listed: --json prints all." if len(groups) > LISTED else ""
        paragraph(console, f"{len(groups):,} groups; {extra:,} images repeat another one.{more}")
    largest = len(groups[0]) if groups else 0
    if largest > max(10, len(index) // 4):
        paragraph(
            error_console() if as_json else console,
            f"The largest group holds {largest:,} of {len(index):,} images: the encoder hardly tells images "
            f"apart at this threshold. Type a higher --threshold, or look whether it has collapsed: "
            f"isosphere evaluate {run} {data}",
            style="yellow",
        )
    if out is not None:
        _draw(out, data, groups, index, threshold)
        paragraph(error_console() if as_json else console, f"Drawn: {out}")


def _named(group: "DuplicateGroup", index: "Index") -> list[dict[str, object]]:
    return [
        {"path": index.paths[row], "similarity": round(similarity, 6)}
        for row, similarity in zip(group.rows, group.similarities, strict=True)
    ]


def _names(group: "DuplicateGroup", index: "Index", limit: int) -> list[str]:
    names = [index.paths[row] for row in group.rows[:limit]]
    return names + (["..."] if len(group) > limit else [])


def _draw(out: Path, data: str, groups: "list[DuplicateGroup]", index: "Index", threshold: float) -> None:
    from isosphere.cli.apply import pictures
    from isosphere.data import open_source
    from isosphere.report import Card, Group, gallery_page

    drawn = groups[:DRAWN]
    paths = [index.paths[row] for group in drawn for row in group.rows[:CARDS]]
    shown = pictures(open_source(data), paths)
    made = []
    for number, group in enumerate(drawn, 1):
        cards = [
            Card(shown[index.paths[row]], index.paths[row], f"cosine {similarity:.3f}")
            for row, similarity in list(zip(group.rows, group.similarities, strict=True))[:CARDS]
        ]
        note = f"The first {CARDS} of them." if len(group) > CARDS else ""
        made.append(Group(f"{number}. {len(group):,} images", cards, note))
    first = f"; the first {DRAWN} are shown" if len(groups) > DRAWN else ""
    summary = (
        f"{len(groups):,} groups among {len(index):,} images of {data}, linked by cosines of at least "
        f"{threshold:g}{first}"
    )
    gallery_page(out, "Near-duplicates", made, summary=summary)
