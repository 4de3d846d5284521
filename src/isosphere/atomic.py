"""The one place that writes files: the old ones or the new ones, never half of each, and never through a link."""

import errno
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from isosphere.errors import RunError, UsageError, option

__all__ = [
    "append_text",
    "atomic_file",
    "explain_failed_writes",
    "make_folder",
    "remove_files",
    "write_bytes",
    "write_json",
    "write_text",
]

_ABANDONED = 86_400.0  # seconds after which nobody writes to a hidden file any more


@contextmanager
def explain_failed_writes(path: Path) -> Iterator[None]:
    """Turn a failed write (full disk, no permission) into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. What was there before is unchanged. "
            f"Free some space or mend the permissions, then go on (a training with {option('resume', True)})."
        ) from error


def make_folder(path: Path) -> Path:
    """Make a folder and those above it. Raises: UsageError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {path}: {error.strerror}. Give another {option('out')}."
        ) from error
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary handle whose content replaces `path` on leaving the block, and only if nothing failed.

    The bytes go to a hidden file in the same folder, are synced, and the file is renamed over `path`: a kill
    or a full disk at any moment leaves the previous file as it was. Several processes may write one file at
    once; the last one counts. What a kill left behind is removed by a later write of the same file, a day after.

    Raises: RunError if the bytes cannot be written.
    """
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with explain_failed_writes(path):
        if path.exists():
            _remove_abandoned(path)
        handle = hidden.open("xb")  # O_EXCL: a new file for certain, and no link to another
        try:
            with handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            hidden.replace(path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _remove_abandoned(path: Path) -> None:
    pattern = rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp"
    remove_files(path.parent, pattern, older=time.time() - _ABANDONED)


def remove_files(folder: Path, pattern: str, *, older: float = math.inf) -> None:
    """Remove the files of a folder whose whole name matches a regular expression, and that were last written to before
    a time: those that we have written, and no link, folder or file of somebody else. What cannot be removed stays.
    """
    with suppress(OSError):
        for found in os.scandir(folder):
            with suppress(OSError):
                ours = re.fullmatch(pattern, found.name) and found.is_file(follow_symlinks=False)
                if ours and found.stat(follow_symlinks=False).st_mtime < older:
                    Path(found).unlink()


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


def append_text(path: Path, text: str) -> None:
    """Add to a file that only grows, in UTF-8. Raises: RunError if that cannot be, or `path` is a link: what is added
    would end up in another file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with explain_failed_writes(path):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link to another file")
        with os.fdopen(os.open(path, flags, 0o666), "ab") as handle:
            handle.write(text.encode("utf-8"))


def write_text(path: Path, content: str) -> None:
    """Replace the content of `path` atomically, in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace the content of `path` atomically by indented JSON; not-a-number is refused, since JSON has
    none.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
