"""``isosphere search``: the images most like one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import error_console, output_console, paragraph, print_json, table
from isosphere.cli.listing import AsCsv, AsJson, check_form, print_csv
from isosphere.cli.names import images_of, together
from isosphere.cli.options import SEARCH_LAYER, NoCache, Overwrite, Passes, Run
from isosphere.errors import command, plural

if TYPE_CHECKING:
    from isosphere.deploy import Match
__all__ = ["search"]


def search(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Files to look for, or a folder.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="DATA",
            help="Images to search, as for isosphere train.",
            show_default="those of isosphere update, else of the training",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find.")] = 5,
    layer: SEARCH_LAYER = None,
    passes: Passes = 1,
    engine: Annotated[
        str,
        typer.Option(metavar="auto|blocked|faiss", help="Who compares; all give the same answer."),
    ] = "auto",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) or picture (.png) to draw.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Find the images that are most like one, or like each of several, by the cosine of their features.

    isosphere search RUN PICTURE.jpg --in PICTURES -k 5

    Where the picture is among the images itself, by its content, that is remarked. The images are embedded once;
    the index stays in the run's folder and is extended when images are added.
    Every image is compared, by FAISS where it is installed and the index is large.
    """
    from isosphere.cli.apply import (
        check_engine,
        check_layer,
        check_page,
        indexed,
        indexing_note,
        listed,
        require_pictures,
        say_left_out,
        say_white,
    )

    for_programs = check_form(as_json, as_csv)
    named, searcher = check_layer(layer), check_engine(engine)
    check_page(out, (".html", ".png"), overwrite=overwrite)
    import isosphere
    from isosphere.data import WHOLE
    from isosphere.deploy import source_of
    from isosphere.runs import RunFolder
    from isosphere.workflows import mark_itself, match_uncertainty

    RunFolder.require_first(run, data, command("search", data, *images, in_=run))

    loaded = isosphere.load(run, cache=not no_cache).looking(passes)
    mixed = len(images) > 1 and any(Path(name).is_dir() for name in images)  # which is to be searched?
    loaded, within = images_of(loaded, data, "--in", training=not mixed)
    chosen = named or loaded.search_layer
    require_pictures(images)
    asked = together(images)
    loaded, white = loaded.settled(within)
    queries, names = loaded.fitted(WHOLE).embed(asked, layer=chosen), source_of(asked).paths
    if len(images) == len(names):
        names = images
    index = indexed(loaded, within, chosen)
    found = match_uncertainty(loaded, within, index, index.search(queries, k, engine=searcher))
    found = mark_itself(asked, within, index, found)
    if as_json:
        facts = {"layer": chosen, "passes": passes, "images": len(index)}
        answers = [
            {"query": name, **facts, "matches": [m.as_dict() for m in each], "left_out": listed(index)}
            for name, each in zip(names, found, strict=True)
        ]
        print_json(answers if len(answers) > 1 else answers[0])
    elif as_csv:
        pairs = [
            {"query": name, "rank": rank, **match.as_dict()}
            for name, each in zip(names, found, strict=True)
            for rank, match in enumerate(each, 1)
        ]
        print_csv(pairs)
    else:
        note = indexing_note(index, cache=not no_cache) + (f", {passes} passes" if passes > 1 else "")
        for name, matches in zip(names, found, strict=True):
            _print(f"Like {Path(name).name} among {note}", matches)
            note = plural(len(index), "image")  # what was done to have the index is said once
    say_left_out(index, as_json=for_programs)
    say_white(white, as_json=for_programs)
    if out is not None:
        from isosphere.cli.drawing import draw_matches

        draw_matches(out, source_of(asked).read_as(loaded.reading), names, within, found, len(index))
        paragraph(error_console() if for_programs else output_console(), f"Drawn: {out}")


def _print(title: str, found: "list[Match]") -> None:
    columns: dict[str, list[str]] = {
        "rank": [str(i) for i in range(1, len(found) + 1)],
        "cosine": [f"{m.similarity:.4f}" for m in found],
        "uncertainty": [f"{m.uncertainty:.4f}" for m in found if m.uncertainty is not None],
        "remark": ["itself" if m.itself else "" for m in found],
        "class": [m.label or "" for m in found],
        "image": [m.path for m in found],
    }
    shown = {name: column for name, column in columns.items() if any(column)}
    table(output_console(), title, [*shown], [list(row) for row in zip(*shown.values(), strict=True)])
