"""Several sources as one."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import PurePath
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._about import About
from ._home import expanded
from ._numbers import Numbers
from ._pixels import Picture, Reading
from ._source import Origin, Source

AND = " + "
"""What stands between the names of several sources."""

_PLUS = re.compile(r"(?<![^ ])(\\*)\+(?![^ ])")
_ESCAPED = re.compile(r"(?<![^ ])\\(\\*)\+(?![^ ])")


def parts_of(text: str) -> list[str]:
    """The names in a text that names several sources, ``A + B``; the text alone where it is the name of one."""
    with suppress(OSError, ValueError, RuntimeError):
        if AND not in text or expanded(text).exists():
            return [text]
    parts = [_ESCAPED.sub(r"\1+", each) for each in text.split(AND)]
    return [part if _is_there(part) else part.strip() for part in parts if part.strip()] or [text]


def joined(names: Sequence[str]) -> str:
    """The text that names several sources: `parts_of` gives them back. A + between blanks in a name of one of them gets
    a backslash, and blanks part the names where the text were the name of a file.
    """
    if len(names) == 1:
        return names[0]
    escaped = [_PLUS.sub(r"\\\1+", name) for name in names]
    text = AND.join(escaped)
    return f" {AND}".join(escaped) if _is_there(text) else text


def _is_there(name: str) -> bool:
    with suppress(OSError, ValueError, RuntimeError):
        return expanded(name).exists()
    return False


class JoinedSource(Source):
    """The images of several sources, one after another; classes of the same name are one.

    Args:
        parts: the sources. names: what each is called in front of the names of its images.
    """

    def __init__(self, parts: Sequence[Source], names: Sequence[str]) -> None:
        classes = sorted({name for part in parts for name in part.class_names})
        named = list(zip(names, parts, strict=True))
        super().__init__(
            AND.join(part.name for part in parts),
            [f"{name}/{path}" for name, part in named for path in part.paths],
            labels=np.concatenate([part.with_class_names(classes).labels for part in parts]),
            class_names=classes,
            has_test_split=any(part.has_test_split for part in parts),
            unreadable=[
                (f"{name}/{path}", reason) for name, part in named for path, reason in part.unreadable
            ],
            left_out=[(f"{name}/{path}", remark) for name, part in named for path, remark in part.left_out],
        )
        self.notes = tuple(note for part in parts for note in part.notes)
        self.parts, self.names = list(parts), list(names)
        self._starts = np.cumsum([0, *map(len, parts)])
        self.in_memory = all(part.in_memory for part in parts)
        self.thread_safe = all(part.thread_safe for part in parts)

    def _at(self, i: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self.parts[part], int(i - self._starts[part])

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        part, k = self._at(i)
        return part.image(k, at_least=at_least)

    def dimensions(self, i: int) -> tuple[int, int]:
        part, k = self._at(i)
        return part.dimensions(k)

    def about(self, i: int) -> About:
        part, k = self._at(i)
        return part.about(k)

    def stored(self, i: int) -> Image.Image:
        part, k = self._at(i)
        return part.stored(k)

    def numbers(self, i: int) -> Numbers:
        part, k = self._at(i)
        return part.numbers(k)

    def digest(self, i: int) -> bytes:
        part, k = self._at(i)
        return part.digest(k)

    def origin(self, i: int) -> Origin | None:
        part, k = self._at(i)
        return part.origin(k)

    def holds(self, i: int) -> bool:
        part, k = self._at(i)
        return part.holds(k)

    @contextmanager
    def ahead(self, positions: Sequence[int]) -> Iterator[None]:
        places = [self._at(i) for i in positions]
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.ahead([k for own, k in places if own is part]))
            yield

    def read_as(self, reading: Reading) -> Self:
        other = super().read_as(reading)
        other.parts = [part.read_as(reading) for part in self.parts]
        return other


def join_sources(sources: Sequence[Source]) -> JoinedSource:
    """Several sources that are open as one, in this order."""
    places = [source.location or source.name for source in sources]
    whole = JoinedSource(sources, distinct_ends(places))
    if all(source.location for source in sources):
        whole.location = joined(places)
    return whole


def part_numbers(source: Source) -> NDArray[np.int64] | None:
    """For each image of several sources the number of its own, from 0; None for a source that is one.

    Shape: int64 (n,).
    """
    if not isinstance(source, JoinedSource):
        return None
    return np.repeat(np.arange(len(source.parts)), [len(part) for part in source.parts])


def distinct_ends(names: Sequence[str]) -> list[str]:
    """The shortest ends of names that tell them apart; numbered where one is given twice."""
    parts = [PurePath(name).parts for name in names]
    for depth in range(1, 1 + max(map(len, parts))):
        ends = ["/".join(part[-depth:]).strip("/") for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{i}/{name.strip('/')}" for i, name in enumerate(names, 1)]
