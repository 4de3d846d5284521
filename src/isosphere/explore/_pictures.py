"""Pictures of a page: small ones, and one at a time larger."""

import io
import threading
from contextlib import nullcontext
from functools import lru_cache

from PIL import Image

from isosphere.data import Source, UnreadableImageError, visible

THUMBNAIL, LARGE = 160, 1024
"""Pixels of the longer side at the most."""
_EXACT = 48
"""A picture of no more pixels a side is kept to the bit: it is shown enlarged by whole pixels."""


class Pictures:
    """The images of a source as files of WebP; one that can no longer be read is a grey square."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._one_at_a_time = nullcontext() if source.thread_safe else threading.Lock()
        self.thumbnail = lru_cache(maxsize=16384)(lambda row: self._webp(row, THUMBNAIL))

    def large(self, row: int) -> bytes:
        """An image as large as a page shows it."""
        return self._webp(row, LARGE)

    def _webp(self, row: int, side: int) -> bytes:
        try:
            with self._one_at_a_time:
                picture = visible(self.source.image(row, at_least=side))
        except UnreadableImageError:
            picture = Image.new("RGB", (8, 8), "grey")
        picture = picture.convert("RGB")
        exact = max(picture.size) <= _EXACT
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        picture.save(stream, "WEBP", lossless=exact, quality=80, method=2)
        return stream.getvalue()
