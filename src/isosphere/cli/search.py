"""``isosphere search``: the images most like one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import NoCache, error_console, output_console, paragraph, table
from isosphere.errors import UsageError

if TYPE_CHECKING:
    from isosphere.deploy import Match

__all__ = ["search"]


def search(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="File to look for.", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            "--in", metavar="DATA", help="Images to search, as for isosphere train.", show_default=False
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find.")] = 5,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="backbone|views|head",
            help="Features to compare.",
            show_default="views, or backbone where the run has no metric of its views",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="auto|blocked|faiss", help="Who compares; all give the same answer."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page (.html) or picture (.png) to draw.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    no_cache: NoCache = False,
) -> None:
    """Find the images that are most like one, by the cosine of their features.

    isosphere search RUN PICTURE.jpg --in PICTURES -k 5

    The images are embedded once; the index stays in the run's folder and is extended when images are added.
    Every image is compared, by FAISS where it is installed and the index is large.
    """
    from isosphere.cli.apply import check_engine, check_layer, check_page, indexed, indexing_note

    named, searcher = check_layer(layer) if layer else None, check_engine(engine)
    check_page(out, (".html", ".png"), overwrite=overwrite)
    import isosphere

    loaded = isosphere.load(run, cache=not no_cache)
    chosen = named or loaded.search_layer
    query = loaded.embed(image, layer=chosen)
    if len(query) != 1:
        raise UsageError(
            f"{image} holds {len(query)} images, and one is searched for: give the file of an image."
        )
    index = indexed(loaded, data, chosen)
    (found,) = index.search(query, k, engine=searcher)
    if as_json:
        result = {
            "query": str(image),
            "layer": chosen,
            "images": len(index),
            "matches": [m.as_dict() for m in found],
        }
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        rows = [[str(i), f"{m.similarity:.4f}", m.label or "", m.path] for i, m in enumerate(found, 1)]
        labelled = any(m.label for m in found)
        columns = ["rank", "cosine", *(["class"] if labelled else []), "image"]
        rows = rows if labelled else [[a, b, d] for a, b, _, d in rows]
        console = output_console()
        table(console, f"Like {image.name} among {indexing_note(index, cache=not no_cache)}", columns, rows)
    if out is not None:
        _draw(out, image, data, found, len(index))
        paragraph(error_console() if as_json else output_console(), f"Drawn: {out}")


def _draw(out: Path, image: Path, data: str, found: "list[Match]", count: int) -> None:
    from isosphere.cli.apply import SHOWN, pictures
    from isosphere.data import decode, open_source
    from isosphere.report import Card, Group, gallery_page, thumbnail

    source = open_source(data)
    if out.suffix.lower() == ".png":
        _draw_png(out, image, source, found)
        return
    shown = pictures(source, [m.path for m in found])
    cards = [Card(thumbnail(decode(image, at_least=SHOWN), SHOWN), image.name, "query", marked=True)]
    cards += [
        Card(shown[m.path], m.path, " · ".join(filter(None, [f"cosine {m.similarity:.3f}", m.label])))
        for m in found
    ]
    summary = f"{len(found)} of {count:,} images of {data}, best first"
    gallery_page(out, f"Images like {image.name}", [Group("", cards)], summary=summary)


def _draw_png(out: Path, image: Path, source: object, found: "list[Match]") -> None:
    import torch

    from isosphere.cli.apply import SHOWN
    from isosphere.data import Source, UnreadableImageError, decode, fit_square, to_tensor
    from isosphere.report import neighbour_gallery

    assert isinstance(source, Source)
    position = {path: i for i, path in enumerate(source.paths)}

    def square(path: str) -> torch.Tensor:
        try:
            return to_tensor(fit_square(source.image(position[path], at_least=SHOWN), SHOWN))
        except UnreadableImageError:
            return torch.full((3, SHOWN, SHOWN), 128, dtype=torch.uint8)

    candidates = torch.stack([square(m.path) for m in found])
    asked = to_tensor(fit_square(decode(image, at_least=SHOWN), SHOWN))[None]
    neighbour_gallery(
        candidates,
        [0],
        [list(range(len(found)))],
        out,
        query_images=asked,
        similarities=[[m.similarity for m in found]],
        right=[[False] * len(found)],
        title=f"Images like {image.name}",
    )
