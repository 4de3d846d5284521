"""What was decided about the pictures of a source, from a sample spread over it, in words."""

from dataclasses import dataclass

import numpy as np

from isosphere.errors import UsageError, option, plural

from ._limits import UnreadableImageError
from ._opening import Opening
from ._sample import sample
from ._source import Source

SAMPLE = 64
_HARDLY, _MUCH = 0.02, 0.4
"""Shares of a picture: what lies outside is said from the first on where it is asked for, elsewhere from the second,
which photographs of common shapes (3 : 2, 4 : 3) do not reach."""


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


@dataclass(frozen=True)
class Survey:
    """Of the pictures that were ``looked`` at, how many are ``turned`` by EXIF, have transparency (``clear``), or
    several ``pages``; and which share of an average one is ``unseen`` by the encoder.
    """

    looked: int
    turned: int
    clear: int
    pages: int
    unseen: float
    opening: Opening
    view: str

    @property
    def decided(self) -> list[str]:
        """What is done to pictures, where there are such."""
        of, said = f"of {plural(self.looked, 'image')} looked at", []
        if self.turned:
            said.append(f"{self.turned} {of} {'is' if self.turned == 1 else 'are'} turned by EXIF")
        if self.clear:
            ground = self.opening.ground
            below = (
                f"white, black where nothing would be seen on white ({option('data.ground', ...)})"
                if ground is None
                else "#{:02x}{:02x}{:02x}".format(*ground)
            )
            said.append(f"{self.clear} {of} {_have(self.clear)} transparency, over {below}")
        if self.pages:
            page = self.opening.page
            said.append(
                f"{self.pages} {of} {_have(self.pages)} several pages: page {page} is taken "
                f"({option('data.page', ...)})"
            )
        return said

    @property
    def sentences(self) -> list[str]:
        """What was decided and, where it is much, what is not looked at, in two sentences at the most."""
        said = ["; ".join(self.decided), (self.outside or "") if self.unseen >= _MUCH else ""]
        return [f"{each[0].upper()}{each[1:]}." for each in said if each]

    @property
    def outside(self) -> str | None:
        """How much of the pictures is never looked at; None where it is hardly anything."""
        if self.unseen < _HARDLY:
            return None
        return (
            f"{self.view} of each picture is looked at, and {self.unseen:.0%} of an average one lies outside"
        )


def survey(source: Source, *, samples: int = SAMPLE) -> Survey:
    """Look at a sample of a source that is spread over it, as its `Reading` takes them; nothing is decoded of files."""
    found, reading = [], source.reading
    for i in sample(source, samples):
        try:
            found.append(source.about(i))
        except (UnreadableImageError, UsageError):  # said when it is read
            continue
    unseen = [1 - reading.seen(each.width, each.height) for each in found]
    return Survey(
        len(found),
        sum(each.turned for each in found),
        sum(each.clear for each in found),
        sum(each.pages > 1 for each in found),
        float(np.mean(unseen)) if unseen else 0.0,
        reading.opening,
        "the central square"
        if reading.by_timm is None
        else "the centre that timm's evaluation transform takes",
    )


def unseen(source: Source, *, samples: int = SAMPLE) -> str | None:
    """A sentence on how much of the pictures is never looked at, by a sample; None where it is hardly anything."""
    return survey(source, samples=samples).outside
