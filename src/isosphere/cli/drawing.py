"""Pages and pictures of what ``isosphere search`` and ``dedup`` have found."""

from pathlib import Path

import torch
from PIL import Image

from isosphere.data import Source, UnreadableImageError, decode, fit_square, open_source, to_tensor
from isosphere.deploy import DuplicateGroup, Match
from isosphere.report import Card, Group, gallery_page, neighbour_gallery, thumbnail

__all__ = ["draw_groups", "draw_matches"]

SHOWN = 160
"""Pixels of a picture on a page."""
DRAWN, CARDS = 200, 24
"""Groups on a page, and images of a group, at the most."""


def draw_matches(out: Path, image: Path, data: str, found: list[Match], count: int) -> None:
    """A page, or a picture where `out` ends in .png, of an image and those like it among `count` of `data`."""
    source = open_source(data)
    if out.suffix.lower() == ".png":
        _draw_png(out, image, source, found)
        return
    shown = _pictures(source, [m.path for m in found])
    cards = [Card(thumbnail(decode(image, at_least=SHOWN), SHOWN), image.name, "query", marked=True)]
    cards += [
        Card(shown[m.path], m.path, " · ".join(filter(None, [f"cosine {m.similarity:.3f}", m.label])))
        for m in found
    ]
    summary = f"{len(found)} of {count:,} images of {data}, best first"
    gallery_page(out, f"Images like {image.name}", [Group("", cards)], summary=summary)


def _draw_png(out: Path, image: Path, source: Source, found: list[Match]) -> None:
    position = {path: i for i, path in enumerate(source.paths)}

    def square(path: str) -> torch.Tensor:
        try:
            return to_tensor(fit_square(source.image(position[path], at_least=SHOWN), SHOWN))
        except UnreadableImageError:
            return torch.full((3, SHOWN, SHOWN), 128, dtype=torch.uint8)

    candidates = torch.stack([square(m.path) for m in found])
    asked = to_tensor(fit_square(decode(image, at_least=SHOWN), SHOWN))[None]
    cosines = [[m.similarity for m in found]]
    neighbour_gallery(asked, candidates[None], out, similarities=cosines, title=f"Images like {image.name}")


def draw_groups(out: Path, data: str, groups: list[DuplicateGroup], count: int, threshold: float) -> None:
    """A page of groups of near-duplicates among `count` images of `data`."""
    drawn = groups[:DRAWN]
    shown = _pictures(open_source(data), [path for group in drawn for path in group.paths[:CARDS]])
    made = []
    for number, group in enumerate(drawn, 1):
        found = list(zip(group.paths, group.similarities, strict=True))[:CARDS]
        cards = [Card(shown[path], path, f"cosine {similarity:.3f}") for path, similarity in found]
        note = f"The first {CARDS} of them." if len(group) > CARDS else ""
        made.append(Group(f"{number}. {len(group):,} images", cards, note))
    first = f"; the first {DRAWN} are shown" if len(groups) > DRAWN else ""
    summary = (
        f"{len(groups):,} groups among {count:,} images of {data}, linked by cosines of at least "
        f"{threshold:g}{first}"
    )
    gallery_page(out, "Near-duplicates", made, summary=summary)


def _pictures(source: Source, paths: list[str], side: int = SHOWN) -> dict[str, str]:
    """Data URIs of images by their names; one that can no longer be read is an empty picture."""
    position = {path: i for i, path in enumerate(source.paths)}
    shown = {}
    for path in dict.fromkeys(paths):
        try:
            shown[path] = thumbnail(source.image(position[path], at_least=side), side)
        except (UnreadableImageError, KeyError):
            shown[path] = thumbnail(Image.new("RGB", (8, 8), "grey"), side)
    return shown
