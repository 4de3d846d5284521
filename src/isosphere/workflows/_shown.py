"""What a search or a look for duplicates has found, as pictures: on a page, or in a notebook."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from PIL import Image

from isosphere.data import Reading, Source, UnreadableImageError, visible
from isosphere.deploy import DuplicateGroup, Match, source_of
from isosphere.report import Card, Group, gallery_html, thumbnail

SIDE = 160
"""Pixels of a picture."""
DRAWN, CARDS = 200, 24
"""Groups, and images of a group of near-duplicates, at the most; a search shows all that it was asked for."""

T = TypeVar("T")


class Shown(list[T]):
    """A list that a notebook shows as pictures, made when they are asked for."""

    def __init__(self, found: Iterable[T], draw: Callable[[list[T]], list[Group]]) -> None:
        super().__init__(found)
        self._draw = draw

    def _repr_html_(self) -> str:
        return gallery_html(self._draw(self))


def match_groups(
    images: Any, found: Sequence[Sequence[Match]], *, reading: Reading | None = None
) -> list[Group]:
    """What was found among `images` for each query, with its cosine and class."""
    shown = pictures_of(images, [match.path for matches in found[:DRAWN] for match in matches], reading)
    return [
        Group(f"query {number}" if len(found) > 1 else "", [_card(match, shown) for match in matches])
        for number, matches in enumerate(found[:DRAWN], 1)
    ]


def duplicate_groups(
    images: Any, groups: Sequence[DuplicateGroup], *, reading: Reading | None = None
) -> list[Group]:
    """Groups of near-duplicates among `images`."""
    drawn = groups[:DRAWN]
    shown = pictures_of(images, [path for group in drawn for path in group.paths[:CARDS]], reading)
    made = []
    for number, group in enumerate(drawn, 1):
        found = list(zip(group.paths, group.similarities, strict=True))[:CARDS]
        cards = [Card(shown[path], path, f"cosine {similarity:.3f}") for path, similarity in found]
        note = f"The first {CARDS} of them." if len(group) > CARDS else ""
        made.append(Group(f"{number}. {len(group):,} images", cards, note))
    return made


def _card(match: Match, shown: dict[str, str]) -> Card:
    unsure = None if match.uncertainty is None else f"uncertainty {match.uncertainty:.3f}"
    detail = " · ".join(filter(None, [f"cosine {match.similarity:.3f}", unsure, match.label]))
    return Card(shown[match.path], match.path, detail)


def pictures_of(images: Any, paths: Iterable[str], reading: Reading | None) -> dict[str, str]:
    """Data URIs of images by their names; one that can no longer be read is an empty picture."""
    source: Source = source_of(images).read_as(reading or Reading())
    position = {path: i for i, path in enumerate(source.paths)}
    shown = {}
    for path in dict.fromkeys(paths):
        try:
            shown[path] = thumbnail(visible(source.image(position[path], at_least=SIDE)), SIDE)
        except (UnreadableImageError, KeyError):
            shown[path] = thumbnail(Image.new("RGB", (8, 8), "grey"), SIDE)
    return shown
