"""What ends a command and was not foreseen, in one paragraph; of faults of our own a file has what a report needs."""

import functools
import os
import platform
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from isosphere import __version__
from isosphere.cli.console import error_console, paragraph
from isosphere.errors import RunError, out_of_memory

__all__ = [
    "CLOSED_PIPE",
    "DEBUG",
    "EXAMPLES",
    "STOPPED",
    "StoppedError",
    "completed",
    "fault",
    "leave_quietly",
    "lost_output",
    "said_when_stopped",
    "warnings_in_words",
]

DEBUG = "ISOSPHERE_DEBUG"
"""A variable of the environment that, where it is set, shows tracebacks as Python does."""

CLOSED_PIPE = 141
"""The exit code by which a shell knows a program whose reader has gone, as in ``isosphere list presets | head -1``."""


STOPPED = "stopped by Ctrl-C; nothing was left half-written. The same command begins again."


class StoppedError(RunError):
    """Ctrl-C, where there was nothing to save."""

    exit_code = 130


def said_when_stopped(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Turn Ctrl-C and a full memory into a sentence; here, for what Typer makes of it differs between its releases."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> int | None:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            raise StoppedError(STOPPED) from None
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise RunError(
                "memory has run out; nothing was left half-written. Take smaller batches or smaller images, or fewer "
                "images and processes at a time."
            ) from error

    return run


EXAMPLES = {"--in": "PICTURES", "--format": "timm", "--out": "embeddings.npz"}
"""Values of options that a command cannot do without."""


def completed(option: str, words: Sequence[str]) -> str:
    """The command that was typed, with an option that it lacks: the folder to search may stand among the pictures."""
    rest, value = list(words), EXAMPLES[option]
    folders = [word for word in rest[2:] if Path(word).is_dir()]
    if option == "--in" and folders and len(rest) > 3:
        value = folders[0]
        rest.remove(value)
    return f"Type: isosphere {shlex.join([*rest, option, value])}"


def fault(error: Exception, words: Sequence[str]) -> str:
    """A sentence on a fault of our own, whose traceback is written to a file of the temporary folder."""
    said = " ".join(str(error).split())[:200]
    what = f"an unexpected {type(error).__name__}{f' ({said})' if said else ''}, a fault of isosphere itself."
    details = [
        f"isosphere {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        shlex.join(["isosphere", *words]),
        "".join(traceback.format_exception(error)),
    ]
    try:
        handle, path = tempfile.mkstemp(prefix="isosphere-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n\n".join(details))
    except OSError:
        return f"{what} Type the same with {DEBUG}=1 before it to see where, and report what it prints."
    return f"{what} Where it happened is written in {path}: please report it with this file."


def lost_output(error: Exception) -> str:
    """Why what was printed could not be written, such as a full disk; empty if this error is of something else."""
    if not isinstance(error, OSError) or error.filename is not None or sys.stdout is None:
        return ""
    try:
        sys.stdout.write("\n")  # what has failed once was given up, and says nothing more
        sys.stdout.flush()
    except (OSError, ValueError):
        return (error.strerror or str(error)).lower()
    return ""


def leave_quietly() -> int:
    """The exit code where the reader of our output has gone; what Python still holds back goes nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE


@contextmanager
def warnings_in_words() -> Iterator[None]:
    """Within the block a warning of our own is a paragraph on standard error, without a place in the code."""
    shown = warnings.showwarning

    def show(message: Any, category: Any, filename: str, *more: Any) -> None:
        if issubclass(category, UserWarning) and "isosphere" in Path(filename).parts:
            paragraph(error_console(), f"isosphere: {message}", style="yellow")
        else:
            shown(message, category, filename, *more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
