"""What ``outliers``, ``select`` and ``cluster`` have in common: the index of the images, and what is said of it."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from isosphere.cli.names import images_of, together
from isosphere.cli.options import Run
from isosphere.errors import command

if TYPE_CHECKING:
    from isosphere.data import Source, White
    from isosphere.deploy import Index
    from isosphere.workflows import Run as Trained

__all__ = ["OwnData", "facts_of", "labelled_in", "opened", "say_of", "without"]


OwnData: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        help="Images, as for isosphere train.",
        show_default="those of isosphere update, else of the training",
    ),
]


def opened(
    name: str, run: Run, data: list[str] | None, layer: str | None, passes: int, no_cache: bool
) -> "tuple[Trained, Source, Index, White | None]":
    """The run, the images that are named, else those of the run, their index without links to one file, and which
    number is white in them.
    """
    import isosphere
    from isosphere.cli.apply import check_layer, indexed
    from isosphere.runs import RunFolder

    named, of = check_layer(layer), together(data) if data else None
    if of is not None:
        RunFolder.require_first(run, of, command(name, of, run))
    loaded, source = images_of(isosphere.load(run, cache=not no_cache).looking(passes), of, "DATA...")
    loaded, white = loaded.settled(source)
    return loaded, source, indexed(loaded, source, named).of_files(source), white


def labelled_in(index: "Index", source: "Source", file: str) -> list[str]:
    """Names of the images of an index that have a label in a file."""
    from isosphere.data import match_labels, read_label_file

    found = match_labels(source, read_label_file(file))
    assert index.positions is not None
    return [index.paths[row] for row, i in enumerate(index.positions) if found.labels[i] >= 0]


def facts_of(index: "Index") -> dict[str, object]:
    from isosphere.cli.apply import listed

    return {
        "layer": index.layer,
        "passes": index.passes,
        "images": len(index),
        "left_out": listed(index),
    }


def say_of(index: "Index", white: "White | None", for_programs: bool) -> None:
    from isosphere.cli.apply import say_left_out, say_white

    say_left_out(index, as_json=for_programs)
    say_white(white, as_json=for_programs)


def without(rows: list[dict[str, object]], *keys: str) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]
