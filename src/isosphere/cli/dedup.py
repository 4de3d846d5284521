"""``isosphere dedup``: images that are nearly the same."""

from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.listing import AsCsv, AsJson, check_form
from isosphere.cli.names import images_of, names_of_sets, together
from isosphere.cli.options import LAYERS, NoCache, Overwrite, Run, Seed
from isosphere.errors import command

__all__ = ["dedup"]


def dedup(
    run: Run,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Images, as for isosphere train.",
            show_default="those of isosphere update, by its threshold, else of the training",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Cosine from which two images are the same.", show_default="chosen on copies of these images"
        ),
    ] = None,
    false_pairs: Annotated[
        float, typer.Option(min=1e-6, help="Pairs of different images that a chosen threshold may find.")
    ] = 1.0,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help=f"Features to compare: {LAYERS}.",
            show_default="the one that finds copies best; with --threshold backbone",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="first|largest|sharpest", help="Which of a group to keep.", show_default=False),
    ] = None,
    list_: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Write the names of the images to keep (.txt, .csv).",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Page (.html) or table (.csv) of the 40 pairs nearest to the threshold, to be answered.",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="These pairs with answers (.csv): prints the precision.", show_default=False),
    ] = None,
    seed: Seed = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) that shows the groups.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Group images that are nearly the same. Nothing is deleted.

    isosphere dedup RUN PICTURES --out duplicates.html

    isosphere dedup RUN TRAINING TEST compares images of different sets only; 'A + B' is one set.

    The threshold is chosen on copies that are made of some of the images (JPEG, resizing, slight crops): the lowest
    that finds them, unless more false pairs are to be expected. Colours and mirror images are not copies. Images are in
    one group if a chain of pairs leads from one to the other.
    """
    from isosphere.cli.apply import check_layer, check_page
    from isosphere.cli.duplicates import check_keep, print_groups, say_duplicates, write_kept
    from isosphere.workflows import check_threshold, progress_bar, read_answers, write_pairs

    check_form(as_json, as_csv)
    chosen, kept = check_layer(layer), check_keep(keep, list_)
    check_threshold(threshold)
    answered = None if answers is None else read_answers(answers)
    for page, endings in ((out, (".html",)), (pairs, (".html", ".csv")), (list_, (".txt", ".lst", ".csv"))):
        check_page(page, endings, overwrite=overwrite)
    import isosphere.workflows
    from isosphere.data import open_source
    from isosphere.runs import RunFolder

    typed = together(data) if data else None
    RunFolder.require_first(run, typed, command("dedup", typed, run))
    named = [open_source(name) for name in names_of_sets(data or [])]
    loaded = isosphere.load(run, cache=not no_cache)
    if not named:
        loaded, *named = images_of(loaded, None, "DATA...")
        threshold, chosen = isosphere.workflows.recorded_threshold(loaded, threshold, chosen)
    first, *others = named
    with progress_bar("Embedding") as progress:
        found = loaded.dedup(
            first,
            against=others or None,
            threshold=threshold,
            false_pairs=false_pairs,
            layer=chosen,
            seed=seed or 0,
            progress=progress,
        )
    precision = None if answered is None else answered.precision(found)
    dropped = set(found.rows_to_drop(kept)) if kept else set()
    if as_csv:
        print_groups(found, dropped if kept else None)
    forms = {"as_json": as_json, "as_csv": as_csv, "cache": not no_cache}
    say = say_duplicates(found, precision, [run, *(data or [first.name])], **forms)
    if list_ is not None:
        say(write_kept(list_, found, dropped))
    if pairs is not None:
        say(f"{write_pairs(pairs, found)} pairs to be answered: {pairs}")
    if out is not None:
        from isosphere.cli.drawing import draw_groups

        draw_groups(out, found)
        say(f"Drawn: {out}")
