"""Where what was generated or looked up once is kept between runs."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from isosphere.atomic import atomic_file
from isosphere.data._home import expanded
from isosphere.errors import RunError


def cache_folder() -> Path:
    """Where generated data are kept: ``$ISOSPHERE_CACHE``, else ``isosphere`` in the user's cache folder."""
    stated = os.environ.get("ISOSPHERE_CACHE")
    if stated:
        return expanded(stated)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isosphere"


def keep(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file of the cache; one that cannot be written is only slower."""
    with suppress(OSError, RunError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            write(stream)
