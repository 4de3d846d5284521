"""Files that are either the old ones or the new ones, never half of each."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from isosphere.errors import RunError

__all__ = ["atomic_file", "explain_failed_writes", "write_bytes", "write_json", "write_text"]


@contextmanager
def explain_failed_writes(path: Path) -> Iterator[None]:
    """Turn a failed write (full disk, no permission) into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. What was there before is unchanged. "
            "Free some space or mend the permissions, then type the command again (train: with --resume)."
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary handle whose content replaces `path` on leaving the block, and only if nothing failed.

    The bytes go to a hidden file in the same folder, are synced, and the file is renamed over `path`: a kill
    or a full disk at any moment leaves the previous file as it was. The hidden name is fixed, so that what a
    kill left behind is overwritten by the next attempt.

    Raises: RunError if the bytes cannot be written.
    """
    hidden = path.with_name(f".{path.name}.tmp")
    with explain_failed_writes(path):
        try:
            with hidden.open("wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            hidden.replace(path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can sync a folder at all (Windows cannot open one)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of `path` atomically."""
    with atomic_file(path) as handle:
        handle.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace the content of `path` atomically, in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace the content of `path` atomically by indented JSON; not-a-number is refused, since JSON has
    none.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
