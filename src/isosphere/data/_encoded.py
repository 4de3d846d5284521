"""Images that are stored as the bytes of an image file each: in a folder, in an archive."""

import hashlib
from abc import abstractmethod
from typing import Any

from PIL import Image
from torch import Tensor

from ._about import About
from ._decode import about, decode, decode_tensor, dimensions, numbers, stored
from ._limits import EMPTY, UnreadableImageError
from ._numbers import Numbers
from ._pixels import Picture, visible
from ._source import DIGEST_BYTES, Source


class EncodedSource(Source):
    """A source of encoded images; `body` is all that a container adds."""

    @abstractmethod
    def body(self, i: int) -> bytes:
        """The bytes from which image ``i`` is decoded. Raises: UnreadableImageError."""

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        return decode(self.body(i), at_least=at_least, **self._as_read())

    def read(self, i: int, *, at_least: int | None = None) -> Tensor:
        return decode_tensor(self.body(i), at_least=at_least, **self._as_read())

    def _as_read(self) -> dict[str, Any]:
        made = self.reading
        return {"white": made.white, "opening": made.opening, "channels": made.channels}

    def dimensions(self, i: int) -> tuple[int, int]:
        return dimensions(self.body(i), self.reading.opening)

    def about(self, i: int) -> About:
        return about(self.body(i), self.reading.opening)

    def stored(self, i: int) -> Image.Image:
        try:
            return stored(self.body(i), self.reading.opening)
        except UnreadableImageError:  # a TIFF of bands
            return visible(self.image(i))

    def numbers(self, i: int) -> Numbers:
        return numbers(self.body(i), self.reading.opening)

    def digest(self, i: int) -> bytes:
        body = self.body(i)
        if not body:
            raise UnreadableImageError(EMPTY)
        return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()
