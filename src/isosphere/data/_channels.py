"""Which channels are taken of the pictures of a set: one answer for all of them, from a sample."""

from collections import Counter
from typing import NamedTuple

import torch

from isosphere.errors import UsageError, option, plural

from ._images import ImageSet, PictureSet, load_images
from ._numbers import numbers_seen, whose
from ._picture import Channels
from ._pictures import Pictures
from ._source import Source

_COLOURS = Channels("rgb")
_MEASURED, _SIDE = 512, 64


class Taken(NamedTuple):
    """The channels, and why in words; None where there was nothing to decide."""

    value: Channels
    reason: str | None


def find_channels(source: Source, asked: Channels | None) -> Taken:
    """The channels that are taken of the pictures of a source, by what was asked for and how many bands they have.

    Without being asked: red, green and blue of pictures with 1 or 3 bands, else all bands.

    Raises: UsageError where pictures disagree or none has what is asked for, with counts and what to type.
    """
    seen = [(path, numbers.bands) for path, numbers in numbers_seen(source)]
    kinds = sorted({3 if bands == 1 else bands for _, bands in seen})
    if asked is None and set(kinds) <= {3}:
        return Taken(_COLOURS, None)
    if not seen or (asked is not None and asked.of is not None):
        return Taken(asked or _COLOURS, None)
    if asked is not None and not any(asked.fit(bands) for _, bands in seen):
        raise UsageError(
            f"{option('data.channels', str(asked))} takes pictures of {asked.expected} bands, and there are none among "
            f"the images{whose(source.name)}: {_counted(seen)}. {_choices(max(kinds), asked)}"
        )
    every = sorted({bands for _, bands in seen})
    if asked is None or (not asked.colour and not asked.bands):
        if len(every if asked is not None else kinds) > 1:
            raise UsageError(
                f"The images{whose(source.name)} disagree: {_counted(seen)}. {_choices(max(kinds))}"
            )
        bands = every[0]
        value = Channels(of=bands)
        said = [f"{plural(bands, 'channel')}, all bands", shown_as(value)]
        return Taken(value, "; ".join(filter(None, said)))
    if not asked.bands:
        return Taken(asked, None if asked == _COLOURS else f"channels {asked}")
    value = asked._replace(of=every[0]) if len(every) == 1 else asked
    said = f"{plural(len(value.bands), 'channel')}, bands {value}"
    return Taken(value, "; ".join(filter(None, [said, shown_as(value)])))


def channel_statistics(
    images: ImageSet | PictureSet | Source, size: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0, 1], over all pixels of at most 512 images spread over a set.

    Args:
        size: side at which images of a source are looked at; those in memory are taken as they are.
    """
    chosen = torch.linspace(0, len(images) - 1, min(len(images), _MEASURED)).round().long().numpy()
    if isinstance(images, Source):
        images = load_images(images.subset(chosen), min(size, _SIDE))
    else:
        images = images.subset(chosen)
    found = images.images.squares() if isinstance(images.images, Pictures) else images.images
    pixels = found.transpose(0, 1).flatten(1).double() / 255
    std = pixels.std(1, correction=0).clamp(min=1 / 255)  # of a band without a thing in it
    return tuple(round(x, 6) for x in pixels.mean(1).tolist()), tuple(round(x, 6) for x in std.tolist())


def _counted(seen: list[tuple[str, int]]) -> str:
    """How many pictures have how many bands, with an example of each."""
    first = {bands: path for path, bands in reversed(seen)}
    counts = Counter(bands for _, bands in seen)
    said = [
        f"{counts[k]} of {len(seen)} looked at {'has' if counts[k] == 1 else 'have'} {plural(k, 'band')} ({first[k]})"
        for k in sorted(counts)
    ]
    return said[0] if len(said) == 1 else ", ".join(said)


def _choices(most: int, asked: Channels | None = None) -> str:
    """What to type for pictures of at most so many bands, but for what was asked for."""
    some = option("data.channels", ",".join(map(str, range(1, min(most, 3) + 1))))
    choices = [f"{some} for bands that all of them have (rgb:1,2,3 where these are red, green and blue)"]
    if most == 4 and (asked is None or asked.colour != "rgba"):
        choices.append(f"{option('data.channels', 'rgba')} where the fourth is transparency")
    if asked is None or not asked.colour:
        choices.append(f"{option('data.channels', 'rgb')} to leave out what has other bands than colours")
    return f"Give {', or '.join(choices)}."


def shown_as(channels: Channels | None) -> str:
    """Which channels pictures show to people, in words; empty where they show what is there."""
    number = 3 if channels is None or channels.colour else channels.number or 0
    if number < 2 or (channels is None or channels.colour):
        return ""
    numbers = [str(band) for band in channels.bands] or ["1", "2", "3"]
    if number < 3:
        return f"pictures show band {numbers[0]} as grey"
    return f"pictures show bands {', '.join(numbers[:2])} and {numbers[2]} as red, green and blue"
