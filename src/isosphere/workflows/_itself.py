"""Whether a picture that was found is the very one that was looked for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from isosphere import deploy
from isosphere.data import digests
from isosphere.deploy import Index, Match


def mark_itself(
    images: Any, data: Any, index: Index, found: Sequence[Sequence[Match]], *, channels: int = 3
) -> list[list[Match]]:
    """The matches, each with whether it holds the bytes of the picture that was looked for, wherever both lie.

    `images` were looked for, one list of matches each; `data` is what the index was opened from. Where bytes cannot be
    had, as of PIL images, nothing is said.
    """
    if index.positions is None:
        return [list(matches) for matches in found]
    rows = sorted({match.row for matches in found for match in matches})
    held = digests(deploy.source_of(data).subset(index.positions[rows]))
    known = dict(zip(rows, held, strict=True))
    asked = digests(deploy.source_of(images, channels))
    return [
        [
            replace(match, itself=bool((known[match.row] == own).all())) if own.any() else match
            for match in each
        ]
        for own, each in zip(asked, found, strict=True)
    ]
