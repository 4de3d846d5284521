"""Copies of pictures, as they come about when pictures are saved again: to measure how alike a copy is."""

import hashlib
import io
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from ._limits import UnreadableImageError
from ._numbers import Numbers
from ._picture import Bands
from ._pixels import Picture, Reading
from ._source import DIGEST_BYTES, Source

KINDS = ("jpeg", "resize", "crop", "all three")
"""What is done to a picture. Colours and mirror images are left alone: those are other pictures to most people."""

QUALITY = (30, 95)
"""Of the JPEG."""
SCALE = (0.4, 1.0)
"""Of each side; a picture is not made smaller than :data:`LEAST` pixels."""
CROPPED = 0.1
"""Largest share of width and of height that is cut away."""
LEAST = 64


class Copying(NamedTuple):
    """What is done to one picture: a crop (shares left, top, right, bottom), then a scale, then a JPEG; None: not."""

    kind: str
    crop: tuple[float, float, float, float] | None = None
    scale: float | None = None
    quality: int | None = None


def copying(seed: bytes) -> Copying:
    """What these bytes decide to do to a picture: each kind is equally likely."""
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    kind = KINDS[rng.integers(len(KINDS))]
    cut, start = rng.uniform(0, CROPPED, 2), rng.uniform(0, 1, 2)
    crop = (*(cut * start).tolist(), *(1 - cut * (1 - start)).tolist())
    scale, quality = float(rng.uniform(*SCALE)), int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    return Copying(
        kind,
        crop if kind in ("crop", "all three") else None,
        scale if kind in ("resize", "all three") else None,
        quality if kind in ("jpeg", "all three") else None,
    )


def copy_of(picture: Picture, how: Copying) -> Picture:
    """A copy of a decoded picture; each band of a picture of many is treated alike."""
    if isinstance(picture, Bands):
        return Bands([_copied(plane, how) for plane in picture.split()])
    return _copied(picture, how)


def _sizes(size: tuple[int, int], how: Copying) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """The box that is cut out of a picture of this size, and the size to which it is brought."""
    shares = (0.0, 0.0, 1.0, 1.0) if how.crop is None else how.crop
    left, top, right, bottom = (round(share * side) for share, side in zip(shares, 2 * size, strict=True))
    box = left, top, max(right, left + 1), max(bottom, top + 1)
    width, height = box[2] - left, box[3] - top
    scale = 1.0 if how.scale is None else max(how.scale, min(1.0, LEAST / min(width, height)))
    return box, (max(1, round(scale * width)), max(1, round(scale * height)))


def _copied(image: Image.Image, how: Copying) -> Image.Image:
    box, size = _sizes(image.size, how)
    if how.crop is not None:
        image = image.crop(box)
    if how.scale is not None:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if how.quality is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=how.quality)
        image = Image.open(file)
        image.load()
    return image


class CopiedSource(Source):
    """One copy of each image of a source; which kind and how strong is decided by the image's content and a seed.

    Nothing of it lies on a disk: :meth:`digest` tells the copy from the original, so that features of it can be kept.
    """

    def __init__(self, source: Source, *, seed: int = 0) -> None:
        super().__init__(f"copies of {source.name}", source.paths)
        self.source, self.seed = source, seed
        self.thread_safe, self.reading = source.thread_safe, source.reading

    def copying(self, i: int) -> Copying:
        """What is done to image `i`. Raises: UnreadableImageError."""
        return copying(self.digest(i))

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        picture, how = self.source.image(i), self.copying(i)
        try:
            return copy_of(picture, how)
        except (OSError, ValueError) as error:  # such as a side that JPEG cannot hold
            raise UnreadableImageError(f"no copy of it can be made: {error}") from error

    def dimensions(self, i: int) -> tuple[int, int]:
        return _sizes(self.source.dimensions(i), self.copying(i))[1]

    def numbers(self, i: int) -> Numbers:
        return self.source.numbers(i)

    def digest(self, i: int) -> bytes:
        facts = f"copy 1, seed {self.seed}".encode()
        return hashlib.blake2b(facts + self.source.digest(i), digest_size=DIGEST_BYTES).digest()

    def read_as(self, reading: Reading) -> Self:
        other = super().read_as(reading)
        other.source = self.source.read_as(reading)
        return other
