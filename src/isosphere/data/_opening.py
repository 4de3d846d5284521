"""Which picture of a file is taken, and how it is laid bare: what is chosen before a pixel is looked at."""

from typing import NamedTuple, Self

from PIL import ImageColor

Colour = tuple[int, int, int]
AUTO = "auto"


class Opening(NamedTuple):
    """``page`` of a TIFF, or frame of a GIF, from 1 on. ``ground``: what lies under transparency; None: white, and
    black where nothing would be seen on white. ``max_pixels``: the largest picture that is decoded, if not the usual.
    """

    page: int = 1
    ground: Colour | None = None
    max_pixels: int | None = None

    @classmethod
    def of(cls, page: int | None, ground: str, max_pixels: int | None) -> Self:
        """Of the words of a configuration. Raises: ValueError for a colour that there is not."""
        return cls(page or 1, ground_of(ground), max_pixels)

    @property
    def chosen(self) -> dict[str, object]:
        """What is not as usual, by name, for JSON."""
        usual = type(self)()
        found = {name: value for name, value in self._asdict().items() if value != getattr(usual, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


USUAL = Opening()


def ground_of(word: str) -> Colour | None:
    """A colour by its name or as ``#rrggbb``; None for ``auto``. Raises: ValueError for what is none."""
    if word == AUTO:
        return None
    try:
        colour = ImageColor.getrgb(word)
    except ValueError:
        raise ValueError(f"got '{word}', expected auto, white, black or a colour as #ff8800") from None
    return colour[0], colour[1], colour[2]
