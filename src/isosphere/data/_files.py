"""Files of many images, on a disk or behind an address, which are read in parts."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from isosphere.reading import require_regular

from ._limits import UnreadableImageError, read_file, reason_of
from ._remote import RemoteFile


@dataclass(frozen=True)
class LocalFile:
    """A file on a disk."""

    path: Path
    version = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def place(self) -> str:
        """Where it lies, from any folder."""
        return str(self.path.absolute())

    @property
    def state(self) -> str:
        """What changes with the content. Raises: OSError where it is no regular file."""
        found = require_regular(self.path)
        return f"{self.path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """A stream of its bytes."""
        return self.path.open("rb")

    def read(self, start: int, size: int) -> bytes:
        """So many bytes from `start` on. Raises: UnreadableImageError."""
        try:
            # Opened for each part: thousands of shards would outnumber the files that a process may hold open, and
            # threads and forked workers share no position.
            with self.path.open("rb", buffering=0) as stream:
                stream.seek(start)
                body = stream.read(size)
        except OSError as error:
            raise UnreadableImageError(reason_of(error)) from error
        if len(body) < size:
            raise UnreadableImageError("its shard has become shorter since it was indexed")
        return body

    def beside(self, shown: str, name: str) -> bytes | None:
        """A small file in the folder from which this one is called `shown`; None where there is none."""
        with suppress(UnreadableImageError):
            return read_file(Path(str(self.path).removesuffix(shown) + name))
        return None


File: TypeAlias = LocalFile | RemoteFile
