"""What the commands that apply a run have in common: layers, the index, pictures for a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.atomic import require_free
from isosphere.cli.console import error_console, facts, output_console, paragraph
from isosphere.errors import UsageError, nearest, option, plural

if TYPE_CHECKING:
    from isosphere.data import Source, White
    from isosphere.deploy import Index, Layer
    from isosphere.reductions import SearchEngine
    from isosphere.workflows import Run

__all__ = [
    "check_engine",
    "check_layer",
    "check_page",
    "indexed",
    "indexing_note",
    "listed",
    "require_pictures",
    "say_left_out",
    "say_white",
]


def check_layer(name: str | None) -> "Layer | None":
    """The layer of this name, None for None. Raises: UsageError if there is none."""
    from isosphere.deploy import named_layer

    return (
        None
        if name is None
        else named_layer(name, lambda note: paragraph(error_console(), note, style="yellow"))
    )


def check_engine(name: str) -> "SearchEngine":
    """The search engine of this name. Raises: UsageError if there is none, or it is not installed."""
    if name == "faiss":
        from importlib.util import find_spec

        if find_spec("faiss") is None:
            raise UsageError(
                "--engine faiss: FAISS is not installed. Type: pip install faiss-cpu, or leave "
                "--engine out: the answer is the same."
            )
        return "faiss"
    if name == "auto":
        return "auto"
    if name == "blocked":
        return "blocked"
    raise UsageError(f"--engine: got '{name}', expected auto, blocked or faiss.")


def require_pictures(names: Sequence[str]) -> None:
    """Raises: UsageError for a picture to look for that is not there."""
    from isosphere.data import is_image_file, require_there

    for name in names:
        try:
            require_there(name)
        except UsageError:
            folder = Path(name).parent
            beside = folder.iterdir() if folder.is_dir() else ()
            near = nearest(name, (str(each) for each in beside if each.is_dir() or is_image_file(each)))
            raise UsageError(
                f"there is no picture {name} to look for.{near} Name image files, or a folder of them."
            ) from None


def check_page(out: Path | None, endings: tuple[str, ...], *, overwrite: bool) -> None:
    """Refuse a file of another kind, or one that is there, before any work is done."""
    if out is None:
        return
    if out.suffix.lower() not in endings:
        raise UsageError(
            f"{option('out', out)}: expected a name that ends in {' or '.join(endings)}, for example "
            f"{out.with_suffix(endings[0])}."
        )
    require_free(out, overwrite=overwrite)


def indexed(run: "Run", data: "str | Source", layer: "Layer | None") -> "Index":
    """The index of the images, with a bar while it is built; a run without a cache keeps no index either."""
    from isosphere.workflows import progress_bar

    with progress_bar("Indexing") as progress:
        return run.index(data, layer=layer, progress=progress)


def indexing_note(index: "Index", *, cache: bool = True) -> str:
    """What was done to have the index."""
    changes = [f"{index.added:,} embedded now"] if index.added else []
    changes += [f"{index.removed:,} gone or changed"] if index.removed else []
    kept = "" if index.saved or not cache else "; it could not be kept in the run's folder"
    files = index.added + index.reused
    links = f" in {files:,} files" if files > len(index) else ""  # of several links to one file
    return (
        f"{plural(len(index), 'image')}{links}"
        + (f" ({', '.join(changes)})" if changes else " (as before)")
        + kept
    )


def say_left_out(index: "Index", *, as_json: bool) -> None:
    """Name the files that could not be read, and count them; beside JSON on standard error."""
    from isosphere.data import left_out

    if index.skipped:
        console = error_console() if as_json else output_console()
        paragraph(console, left_out(index.skipped), style="yellow")


def listed(index: "Index") -> list[dict[str, str]]:
    """The files that could not be read, for JSON."""
    return [{"path": path, "reason": reason} for path, reason in index.skipped]


def say_white(white: "White | None", *, as_json: bool = False) -> None:
    """Print which number is white where it was found in the images, and what to beware of."""
    console = error_console() if as_json else output_console()
    if white is not None:
        facts(console, {"pixels": white.reason})
        if white.caution:
            paragraph(console, white.caution, style="yellow")


def check_ray(engine: str, others: dict[str, object]) -> None:
    """Refuse another engine, one that is not installed, and what the workers of Ray do not do."""
    from isosphere.ray import require_ray

    if engine != "ray":
        raise UsageError(f"{option('engine', engine)}: expected ray, or leave it out.")
    if given := [name for name, value in others.items() if value is not None]:
        raise UsageError(f"{option('engine', engine)} and {option(given[0])}: give one of them.")
    require_ray()
