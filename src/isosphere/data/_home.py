"""Paths as people type them."""

import os
from pathlib import Path


def expanded(path: "str | os.PathLike[str]") -> Path:
    """The path, with the home folder of ``~`` or ``~user``; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
