"""What is told of a picture before it is decoded."""

from typing import NamedTuple


class About(NamedTuple):
    """Width and height as they are stored, whether EXIF turns it, whether it has transparency, and how many pages."""

    width: int
    height: int
    turned: bool = False
    clear: bool = False
    pages: int = 1
