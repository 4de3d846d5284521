"""A page of pictures with captions: what a search found, or groups of near-duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from isosphere.errors import printable
from isosphere.report._template import write_page


@dataclass(frozen=True)
class Card:
    """A picture (a data URI, see `thumbnail`), its name, a line below, and whether it is marked."""

    image: str
    name: str
    detail: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Group:
    """Pictures that are shown together."""

    title: str
    cards: list[Card] = field(default_factory=list)
    note: str = ""


def gallery_page(path: str | Path, title: str, groups: Sequence[Group], *, summary: str = "") -> Path:
    """Write one HTML file with the pictures in it; names are escaped, nothing is fetched.

    Raises: UsageError if Jinja2 is not installed; RunError if the file cannot be written.
    """
    return write_page(path, "gallery.html", {"title": title, "groups": list(groups), "summary": summary})


@dataclass(frozen=True)
class PairCards:
    """Two pictures that may be the same, and their cosine."""

    first: Card
    second: Card
    similarity: float


def pairs_page(path: str | Path, title: str, pairs: Sequence[PairCards], *, summary: str = "") -> Path:
    """Write one HTML file in which it can be said of each pair whether it is one picture, and the answers saved as CSV.

    Raises: as :func:`gallery_page`.
    """
    return write_page(path, "pairs.html", {"title": title, "pairs": list(pairs), "summary": summary})


def gallery_html(groups: Sequence[Group]) -> str:
    """The groups as HTML that a notebook shows by itself."""
    made = "".join(
        (f"<h4>{escape(group.title)}</h4>" if group.title else "")
        + f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(map(_figure, group.cards))}</div>'
        + (f"<p>{escape(group.note)}</p>" if group.note else "")
        for group in groups
    )
    return printable(made, lines=True)


def _figure(card: Card) -> str:
    caption = "<br>".join(escape(line) for line in (card.name, card.detail) if line)
    return (
        f'<figure style="margin:0;width:128px;font-size:11px;overflow-wrap:anywhere"><img src="{card.image}" '
        f'style="width:100%" alt="{escape(card.name)}"><figcaption>{caption}</figcaption></figure>'
    )
