"""The page as a folder of files, to be opened without a server or sent to somebody."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from isosphere.atomic import make_folder
from isosphere.errors import UsageError, option
from isosphere.explore._collection import NEIGHBOURS, Found
from isosphere.explore._columns import column_names
from isosphere.explore._page import Page
from isosphere.explore._resources import MOST, MissingError, found_json
from isosphere.explore._server import FILES, STATIC

BLOCK = 256
"""Images whose neighbours are in one file."""
_MARK = '<script src="app.js"'


def check_folder(out: Path) -> None:
    """Raises: UsageError if files of a page cannot be written to `out`: something else is there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{option('export', out)} is there already and is not empty: give another folder.")


def export_page(page: Page, out: Path, *, progress: Callable[[int, int], object] | None = None) -> Path:
    """Write the page to a folder that is not there yet, or empty: `index.html`, scripts, data and thumbnails. Complete
    or absent: it is made under another name beside it.

    What needs the network is left out: search by a picture of one's own. The other lists are those at their usual
    numbers; labels are kept in the browser until they are saved from there. Names are those of the images in the
    collection, not where they lie.

    Raises: UsageError if something is there.
    """
    check_folder(out)
    make_folder(out.parent)
    hidden = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _write(page, hidden, progress)
        if out.exists():
            out.rmdir()
        hidden.rename(out)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return out / "index.html"


def _write(page: Page, folder: Path, progress: Callable[[int, int], object] | None) -> None:
    resources, collection = page.resources, page.resources.collection
    count = len(collection)
    for name in ("data", "thumbs"):
        (folder / name).mkdir()

    def give(name: str, value: object) -> None:
        file = folder / "data" / f"{name.replace('/', '-')}.js"
        # ASCII throughout, and a file of its own: nothing in a name can end the script.
        file.write_text(f"(window.isosphere ??= {{}})[{json.dumps(name)}] = {json.dumps(value)};\n", "ascii")

    meta = {
        **resources.meta(),
        "static": True,
        "search": False,
        "labels": "",
        "unwritten": "",
        "block": BLOCK,
    }
    give("meta", meta)
    give("annotations", page.annotations.read())
    give("files", collection.source.paths)
    for name in ("map", "names", "outliers", "typical", "duplicates", "clusters"):
        give(name, resources.get(name))
    give("diverse", resources.get("diverse", {"k": str(min(MOST, count))}))
    for name in column_names(collection):
        give(f"column/{name}", resources.get(f"column/{name}"))
    for layer in collection.layers:
        cosines, rows = collection.graph(layer, NEIGHBOURS)
        found = [Found(r, c) for r, c in zip(rows.tolist(), cosines.tolist(), strict=True)]
        for start in range(0, count, BLOCK):
            block = [found_json(one) for one in found[start : start + BLOCK]]
            give(f"neighbours/{layer}/{start // BLOCK}", block)
    for row in range(count):
        (folder / "thumbs" / f"{row}.webp").write_bytes(page.pictures.thumbnail(row))
        if progress is not None:
            progress(row + 1, count)
    for name in FILES:
        if name:
            (folder / name).write_bytes((STATIC / name).read_bytes())
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    if _MARK not in html:
        raise MissingError("the script of the page")
    html = html.replace(_MARK, f'<script src="data/meta.js" defer></script>\n    {_MARK}')
    (folder / "index.html").write_text(html, "utf-8")
