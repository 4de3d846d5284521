"""Errors that are addressed to a person: what was got, what was expected, what to type instead."""

__all__ = ["IsosphereError", "RunError", "UsageError", "nearest"]

import difflib
from collections.abc import Iterable


class IsosphereError(Exception):
    """Base of the errors that the command line prints as one paragraph, without a traceback."""

    exit_code = 1


class RunError(IsosphereError):
    """The command was right and the work failed (exit code 1)."""

    exit_code = 1


class UsageError(IsosphereError):
    """The command or its configuration was wrong; nothing was started (exit code 2)."""

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string if none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{match[0]}'?" if match else ""
