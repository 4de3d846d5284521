"""Pages and pictures of what ``isosphere search`` and ``dedup`` have found."""

from pathlib import Path

import torch

from isosphere.data import Source, UnreadableImageError, decode, fit_square, open_source, to_tensor
from isosphere.deploy import DuplicateGroup, Match
from isosphere.report import Card, Group, gallery_page, neighbour_gallery, thumbnail
from isosphere.workflows import DRAWN, SIDE, duplicate_groups, match_groups

__all__ = ["draw_groups", "draw_matches"]


def draw_matches(out: Path, image: Path, data: str, found: list[Match], count: int) -> None:
    """A page, or a picture where `out` ends in .png, of an image and those like it among `count` of `data`."""
    source = open_source(data)
    if out.suffix.lower() == ".png":
        _draw_png(out, image, source, found)
        return
    (group,) = match_groups(source, [found])
    query = Card(thumbnail(decode(image, at_least=SIDE), SIDE), image.name, "query", marked=True)
    cards = [query, *group.cards]
    summary = f"{len(found)} of {count:,} images of {data}, best first"
    gallery_page(out, f"Images like {image.name}", [Group("", cards)], summary=summary)


def _draw_png(out: Path, image: Path, source: Source, found: list[Match]) -> None:
    position = {path: i for i, path in enumerate(source.paths)}

    def square(path: str) -> torch.Tensor:
        try:
            return to_tensor(fit_square(source.image(position[path], at_least=SIDE), SIDE))
        except UnreadableImageError:
            return torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)

    candidates = torch.stack([square(m.path) for m in found])
    asked = to_tensor(fit_square(decode(image, at_least=SIDE), SIDE))[None]
    cosines = [[m.similarity for m in found]]
    neighbour_gallery(asked, candidates[None], out, similarities=cosines, title=f"Images like {image.name}")


def draw_groups(out: Path, data: str, groups: list[DuplicateGroup], count: int, threshold: float) -> None:
    """A page of groups of near-duplicates among `count` images of `data`."""
    first = f"; the first {DRAWN} are shown" if len(groups) > DRAWN else ""
    summary = (
        f"{len(groups):,} groups among {count:,} images of {data}, linked by cosines of at least "
        f"{threshold:g}{first}"
    )
    gallery_page(out, "Near-duplicates", duplicate_groups(data, groups), summary=summary)
