"""Which number is white: one for a whole set, from a sample of it, where its pictures have more than 8 bits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isosphere.errors import UsageError, option, plural

from ._limits import UnreadableImageError
from ._picture import colour_numbers, ends_of, low_bytes
from ._sample import sample

if TYPE_CHECKING:
    from ._pixels import Reading
    from ._source import Source

SAMPLE = 64
_INTEGERS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""Of 8, 10, 12, 14 and 16 bits."""
_OVER = 1.1
"""Floats that end below this are in [0, 1] but for a flaw or a rounding."""


_FEWEST = 16
"""Levels of 256 that pictures must reach: below, they are on a smaller scale than that of their white."""


class Numbers(NamedTuple):
    """What one picture is stored as: kind of numpy's types, least and greatest number, how many bands."""

    kind: str
    low: float
    high: float
    bands: int = 3

    @classmethod
    def of(cls, values: NDArray | Image.Image) -> Self:
        """Of an array (h, w) or (h, w, bands), or a picture that Pillow has opened; of 8 bits nothing is looked at."""
        if isinstance(values, Image.Image):
            if (low := low_bytes(values)) is not None:
                return cls("uint16", *ends_of(colour_numbers(values, low)))
            if not (values.mode.startswith("I;16") or values.mode in ("I", "F")):
                return cls("uint8", 0, 255, 1 if values.mode in ("1", "L", "LA") else 3)
            kind, bands = {"I": "int32", "F": "float32"}.get(values.mode, "uint16"), 1
            values = np.asarray(values)
        else:
            kind, bands = values.dtype.name, values.shape[2] if values.ndim == 3 else 1
        if kind in ("uint8", "bool"):
            return cls("uint8", 0, 255, bands)
        return cls(kind, float(values.min()), float(values.max()), bands)

    @property
    def eight_bits(self) -> bool:
        return self.kind == "uint8"

    @property
    def floats(self) -> bool:
        return self.kind.startswith("float")


class White(NamedTuple):
    """The number that is white, why, and what to beware of."""

    value: float
    reason: str
    caution: str | None


def numbers_seen(source: "Source", most: int = SAMPLE) -> list[tuple[str, Numbers]]:
    """What some pictures, spread over a source, are stored as, by their names; those that cannot be read are passed
    over."""
    looked = []
    for i in sample(source, most):
        try:
            looked.append((source.paths[i], source.numbers(i)))
        except (UnreadableImageError, UsageError):  # said when it is read
            continue
    return looked


def find_white(source: "Source") -> White | None:
    """Which number is white in pictures of more than 8 bits, from a sample spread over a source; None without such.

    Integers: the largest of 8, 10, 12, 14 or 16 bits that holds all that was seen. Floats: 1 or 255.

    Raises: UsageError if it cannot be told, with what was seen and what to type.
    """
    return _white(source, numbers_seen(source), None)


def _white(source: "Source", looked: list[tuple[str, Numbers]], instead: str | None) -> White | None:
    deep = [(path, numbers) for path, numbers in looked if not numbers.eight_bits]
    if not deep:
        return None
    floats = [each for each in deep if each[1].floats]
    if floats and len(floats) < len(deep):
        whole = next(each for each in deep if not each[1].floats)
        raise _untold(source, f"{_said([whole])} and {_said(floats[:1])} are on no common scale", instead)
    low, high = min(n.low for _, n in deep), max(n.high for _, n in deep)
    white = _of_floats(high) if floats else next((top for top in _INTEGERS if high <= top), None)
    if white is None or not low >= -(_OVER - 1) * white:
        raise _untold(source, f"they hold {deep[0][1].kind} from {low:g} to {high:g}", instead)
    caution = None
    if len(deep) < len(looked):
        eight = next(each for each in looked if each[1].eight_bits)
        caution = (
            f"Of {len(looked)} images that were looked at {len(looked) - len(deep)} have 8 bits ({eight[0]}) and "
            f"{len(deep)} more ({deep[0][0]}, {deep[0][1].kind}): 255 is white in the first, {white:g} in the others. "
            f"Where that is wrong, give {option('data.white', ...)}."
        )
    seen = f"{deep[0][1].kind} from {low:g} to {high:g} in {len(deep)} of {len(looked)} images looked at"
    return White(white, f"{white:g} is white ({seen})", caution)


def settle_reading(source: "Source", reading: "Reading") -> tuple["Reading", White | None]:
    """By which reading the images of a source are read as one set: where it leaves open which number is white, the one
    that is so in these, and why; None where it was given or all images have 8 bits.

    Raises: UsageError if it cannot be told, if the images would be nearly black by the one that was given, or if none
        has the bands that are taken.
    """
    looked, channels = numbers_seen(source), reading.channels
    if channels is not None and looked and not any(channels.fit(numbers.bands) for _, numbers in looked):
        path, found = looked[0]
        held = f"{path} has" if len(source) == 1 else f"The images{whose(source.name)} have"
        raise UsageError(
            f"{held} {plural(found.bands, 'band')}, and {channels.expected} are expected (data.channels: {channels})."
        )
    if reading.white is not None:
        instead = f"Scale them to [0, {reading.white:g}], or give images of 8 bits."
        _require_levels(source, looked, reading.white, instead)
        return reading, None
    found = _white(source, looked, "Give images of 8 bits, or floats that fill [0, 1].")
    return (reading if found is None else replace(reading, white=found.value)), found


def require_levels(source: "Source", white: float, instead: str) -> None:
    """Refuse images of more than 8 bits that would be nearly black, for all in a sample end far below ``white``.

    Raises: UsageError, with what was seen and ``instead``.
    """
    _require_levels(source, numbers_seen(source), white, instead)


def _require_levels(source: "Source", looked: list[tuple[str, Numbers]], white: float, instead: str) -> None:
    deep = [numbers for _, numbers in looked if not numbers.eight_bits]
    if deep and 0 < (high := max(n.high for n in deep)) < white / _FEWEST:
        raise UsageError(
            f"The images{whose(source.name)} hold {deep[0].kind} from {min(n.low for n in deep):g} to {high:g}, and "
            f"{white:g} is white: they would be nearly black. {instead}"
        )


def _of_floats(high: float) -> float | None:
    if high <= _OVER:
        return 1.0
    return 255.0 if 128 <= high <= 255 * _OVER else None


def _said(some: Sequence[tuple[str, Any]]) -> str:
    (path, numbers), *_ = some
    return f"{path} ({numbers.kind} from {numbers.low:g} to {numbers.high:g})"


def whose(name: str) -> str:
    """What follows the words "the images" where they have a name."""
    return "" if name == "images" else f" of {name}"


def _untold(source: "Source", why: str, instead: str | None) -> UsageError:
    instead = instead or f"Give {option('data.white', ...)}, the number that is shown as white."
    return UsageError(
        f"It cannot be told which number is white in the images{whose(source.name)}: {why}. {instead}"
    )
