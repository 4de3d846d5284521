"""Where what was generated or looked up once is kept between runs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["cache_folder", "replacing"]


def cache_folder() -> Path:
    """Where generated data are kept: ``$ISOSPHERE_CACHE``, else ``isosphere`` in the user's cache folder."""
    stated = os.environ.get("ISOSPHERE_CACHE")
    if stated:
        return Path(stated).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isosphere"


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose bytes become ``file`` at the end of the block, and only if nothing failed.

    Written under another name and renamed: two processes may do so at once, and a killed one leaves nothing
    half.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
