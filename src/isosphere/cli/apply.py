"""What the commands that apply a run have in common: layers, the index, pictures for a page."""

from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.cli.console import counting, error_console
from isosphere.errors import UsageError

if TYPE_CHECKING:
    from isosphere.data import Source
    from isosphere.deploy import Index, Layer, Run
    from isosphere.reductions import SearchEngine

__all__ = ["check_engine", "check_layer", "check_page", "indexed", "indexing_note", "pictures"]

SHOWN = 160
"""Pixels of a picture on a page."""


def check_layer(name: str) -> "Layer":
    """The layer of this name. Raises: UsageError if there is none."""
    if name in ("backbone", "views", "head"):
        return name
    raise UsageError(f"--layer: got '{name}', expected backbone, views or head.")


def check_engine(name: str) -> "SearchEngine":
    """The search engine of this name. Raises: UsageError if there is none, or it is not installed."""
    if name == "faiss":
        from importlib.util import find_spec

        if find_spec("faiss") is None:
            raise UsageError(
                '--engine faiss: FAISS is not installed. Type: pip install "isosphere[search]", or leave '
                "--engine out: the answer is the same."
            )
        return "faiss"
    if name == "auto":
        return "auto"
    if name == "blocked":
        return "blocked"
    raise UsageError(f"--engine: got '{name}', expected auto, blocked or faiss.")


def check_page(out: Path | None, endings: tuple[str, ...], *, overwrite: bool) -> None:
    """Refuse a page of another kind, or one that is there, before any work is done."""
    if out is None:
        return
    if out.suffix.lower() not in endings:
        raise UsageError(
            f"--out {out}: expected a name that ends in {' or '.join(endings)}, for example "
            f"{out.with_suffix(endings[0])}."
        )
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: add --overwrite, or give another --out.")


def indexed(run: "Run", data: str, layer: "Layer") -> "Index":
    """The index of the images, with a bar while it is built; a run without a cache keeps no index either."""
    from isosphere.data import open_source

    with counting(error_console(), "Indexing") as progress:
        return run.index(data if run.cache else open_source(data), layer=layer, progress=progress)


def indexing_note(index: "Index", *, cache: bool = True) -> str:
    """What was done to have the index."""
    changes = [f"{index.added:,} new"] if index.added else []
    changes += [f"{index.removed:,} gone or changed"] if index.removed else []
    kept = "" if index.saved or not cache else "; it could not be kept in the run's folder"
    return f"{len(index):,} images" + (f" ({', '.join(changes)})" if changes else " (as before)") + kept


def pictures(source: "Source", paths: list[str], side: int = SHOWN) -> dict[str, str]:
    """Data URIs of images by their names; one that can no longer be read is an empty picture."""
    from PIL import Image

    from isosphere.data import UnreadableImageError
    from isosphere.report import thumbnail

    position = {path: i for i, path in enumerate(source.paths)}
    shown = {}
    for path in dict.fromkeys(paths):
        try:
            shown[path] = thumbnail(source.image(position[path], at_least=side), side)
        except (UnreadableImageError, KeyError):
            shown[path] = thumbnail(Image.new("RGB", (8, 8), "grey"), side)
    return shown
