"""Images that are stored as the bytes of an image file each: in a folder, in an archive."""

import hashlib
from abc import abstractmethod
from pathlib import Path

from PIL import Image

from ._decode import MAX_FILE_BYTES, UnreadableImageError, decode
from ._source import DIGEST_BYTES, Source


class EncodedSource(Source):
    """A source of encoded images; `body` is all that a container adds."""

    @abstractmethod
    def body(self, i: int) -> bytes:
        """The bytes from which image ``i`` is decoded. Raises: UnreadableImageError."""

    def image(self, i: int, *, at_least: int | None = None) -> Image.Image:
        return decode(_not_empty(self.body(i)), at_least=at_least)

    def digest(self, i: int) -> bytes:
        return hashlib.blake2b(_not_empty(self.body(i)), digest_size=DIGEST_BYTES).digest()


def _not_empty(body: bytes) -> bytes:
    if not body:
        raise UnreadableImageError("the file is empty")
    return body


def require_fitting(size: int) -> None:
    """Refuse an image of too many bytes before they are read. Raises: UnreadableImageError."""
    if size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"it has {size:,} bytes, more than {MAX_FILE_BYTES:,}")


def read_file(path: Path) -> bytes:
    """The bytes of an image file. Raises: UnreadableImageError."""
    try:
        require_fitting(path.stat().st_size)
        return path.read_bytes()
    except UnreadableImageError:
        raise
    except OSError as error:
        raise UnreadableImageError((error.strerror or str(error)).lower()) from error
