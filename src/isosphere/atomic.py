"""The one place that writes files: the old ones or the new ones, never half of each, never through a link; and one at a
time where only one may write.
"""

import errno
import json
import math
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from isosphere.errors import RunError, UsageError, WriteError, option, printable
from isosphere.reading import require_regular

if sys.platform == "win32":
    import msvcrt
else:
    try:
        import fcntl
    except ImportError:  # neither Windows nor a POSIX system: nobody is held back
        fcntl = None

__all__ = [
    "append_text",
    "atomic_file",
    "explain_failed_writes",
    "locked",
    "make_folder",
    "remove_files",
    "require_free",
    "write_bytes",
    "write_json",
    "write_text",
]

_THIS_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""To open no link's target, and to wait for no pipe."""

_ABANDONED = 86_400.0  # seconds after which nobody writes to a hidden file any more


@contextmanager
def explain_failed_writes(path: Path) -> Iterator[None]:
    """Turn a failed write (full disk, no permission) into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}. What was there before is unchanged. Free some space, or "
            "mend the permissions."
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


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raises: UsageError if there is a file that `overwrite` does not give up. A place that cannot be looked at is
    named when it is written to.
    """
    if not overwrite and os.path.exists(path):  # noqa: PTH110  (Path's own raises where it may not look)
        raise UsageError(f"{path} exists: add {option('overwrite', True)}, or give another {option('out')}.")


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
    """Add to a file that only grows, in UTF-8; one with a second name (a hard link, as copies are made by) is parted
    from it. Raises: RunError if that cannot be, or `path` is a link or a pipe: what is added would end up elsewhere.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _THIS_FILE
    with explain_failed_writes(path):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link to another file")
        with os.fdopen(os.open(path, flags, 0o666), "ab") as handle:
            if require_regular(handle.fileno()).st_nlink <= 1:
                handle.write(text.encode("utf-8"))
                return
        write_bytes(path, path.read_bytes() + text.encode("utf-8"))


def write_text(path: Path, content: str) -> None:
    """Replace the content of `path` atomically, in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace the content of `path` atomically by indented JSON, in which names read back as they were, those that are
    not UTF-8 too; not-a-number is refused, since JSON has none.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, printable(text, lines=True) + "\n")


# --- one at a time ------------------------------------------------------------------------------------------

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems say that have no locks."""

_LOCKED_BYTE = 2**20

_PAUSE = 0.02  # seconds between two attempts

_held: set[Path] = set()
_guard = threading.Lock()


@contextmanager
def locked(
    path: Path, what: str, instead: str, *, within: Path | None = None, patience: float = 0.0
) -> Iterator[None]:
    """Hold `path`, a file that is made for it and removed at the end, within the block: nobody else can meanwhile.

    The system takes the lock back when the process ends, however it ends. On a file system without locks nobody is
    held back.

    Args:
        what, instead: what is said to the second one: ``"the run a is being trained"``, ``"wait for its end"``.
        within: the file that is written meanwhile, to be named where nothing can be written there.
        patience: seconds that the second one waits.

    Raises: RunError if another process, or another thread of this one, holds it, if `path` cannot be written, or is a
        file of somebody else's.
    """
    key, until = path.resolve(), time.monotonic() + patience
    while (handle := _taken(key, path, within or path)) is None:
        if time.monotonic() >= until:
            who = f"process {os.getpid()}, which is this one" if key in _held else _holder(path)
            raise RunError(f"{what} by {who}: {instead}.")
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        with _guard:
            _held.discard(key)
            _release(path, handle)


def _holder(path: Path) -> str:
    with suppress(OSError):
        if (number := path.read_text(errors="replace")[:20]).isdecimal():
            return f"process {number}"
    return "another process"


def _taken(key: Path, path: Path, written: Path) -> int | None:
    with _guard, explain_failed_writes(written):
        # Our own are known: a file that is opened a second time and closed gives up the lock of the whole process.
        handle = None if key in _held else _take(path)
        if handle is not None:
            _held.add(key)
        return handle


def _take(path: Path) -> int | None:
    """A descriptor of the file with the lock on it, the number of this process written in; None if another has it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _THIS_FILE, 0o644)
        try:
            _require_lock(path, handle)
            _lock(handle)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    _sign(path, handle)
                    return handle
            os.close(handle)  # the one before has just removed it: this is nobody's file any more
        except BaseException as error:
            os.close(handle)
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                return None
            raise


def _require_lock(path: Path, handle: int) -> None:
    """Raises: RunError unless it is a file that a lock has left here: empty, or the number of a process. What is
    written to a second name of another file, or removed, would be somebody's.
    """
    alone = require_regular(handle).st_nlink <= 1
    if not (alone and re.fullmatch(rb"[0-9]{0,20}", os.read(handle, 64))):
        raise RunError(
            f"{path} is in the way: it has the name of a lock, and {'is none' if alone else 'is a link'}. Move it away."
        )


def _sign(path: Path, handle: int) -> None:
    """Write the number of this process; on a full disk nothing is left behind."""
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, str(os.getpid()).encode())
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)  # beyond the number, which others can read so
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    elif fcntl is not None:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process, not of those that it forks
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise


def _release(path: Path, handle: int) -> None:
    """Remove the file, then give up the lock; Windows removes no file that is open."""
    if sys.platform == "win32":
        os.close(handle)
    with suppress(OSError):
        path.unlink()
    if sys.platform != "win32":
        os.close(handle)
