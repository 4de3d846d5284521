"""A page of pictures with captions: what a search found, or groups of near-duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
