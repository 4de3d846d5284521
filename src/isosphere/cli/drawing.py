"""Pages and pictures of what ``isosphere search`` and ``dedup`` have found."""

from collections.abc import Sequence
from pathlib import Path

import torch

from isosphere.data import (
    Reading,
    Source,
    UnreadableImageError,
    fit_square,
    shown_as,
    to_tensor,
    visible,
)
from isosphere.deploy import Match
from isosphere.report import Card, Group, gallery_page, neighbour_gallery, thumbnail
from isosphere.workflows import DRAWN, SIDE, Duplicates, duplicate_groups, match_groups

__all__ = ["draw_groups", "draw_matches"]


def draw_matches(
    out: Path,
    queries: Source,
    names: Sequence[str],
    data: Source,
    found: Sequence[Sequence[Match]],
    count: int,
) -> None:
    """A page, or a picture where `out` ends in .png, of images and those like each among `count` of `data`; of the
    first `DRAWN` where there are more.
    """
    source, found = data.read_as(queries.reading), found[:DRAWN]
    title = f"Images like {Path(names[0]).name}" if len(names) == 1 else f"Images like {len(names):,} others"
    if out.suffix.lower() == ".png":
        _draw_png(out, queries, source, found, title)
        return
    groups = []
    for i, group in enumerate(match_groups(source, found, reading=queries.reading)):
        query = Card(
            thumbnail(visible(queries.image(i, at_least=SIDE)), SIDE),
            Path(names[i]).name,
            "query",
            marked=True,
        )
        groups.append(Group("", [query, *group.cards]))
    summary = f"{len(found[0])} of {count:,} images of {data.name}, best first{_of_bands(queries.reading)}"
    gallery_page(out, title, groups, summary=summary)


def _draw_png(
    out: Path, queries: Source, source: Source, found: Sequence[Sequence[Match]], title: str
) -> None:
    position = {path: i for i, path in enumerate(source.paths)}

    def square(images: Source, i: int) -> torch.Tensor:
        picture = visible(images.image(i, at_least=SIDE)).convert("RGB")
        return to_tensor(fit_square(picture, SIDE))

    def match(path: str) -> torch.Tensor:
        try:
            return square(source, position[path])
        except UnreadableImageError:
            return torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)

    candidates = torch.stack([torch.stack([match(m.path) for m in matches]) for matches in found])
    asked = [square(queries, i) for i in range(len(found))]
    cosines = [[m.similarity for m in matches] for matches in found]
    neighbour_gallery(torch.stack(asked), candidates, out, similarities=cosines, title=title)


def draw_groups(out: Path, found: Duplicates) -> None:
    """A page of groups of near-duplicates."""
    compared = found.compared
    reading = compared.source.reading
    first = f"; the first {DRAWN} are shown" if len(found) > DRAWN else ""
    summary = (
        f"{len(found):,} groups among {len(compared.index):,} images of {compared.source.name}, linked by cosines "
        f"of at least {found.threshold:.6g}{first}{_of_bands(reading)}"
    )
    groups = duplicate_groups(compared.source, found, reading=reading)
    gallery_page(out, "Near-duplicates", groups, summary=summary)


def _of_bands(reading: Reading) -> str:
    """Which bands the pictures show, after what else is said."""
    words = shown_as(reading.channels)
    return f"; {words}" if words else ""
