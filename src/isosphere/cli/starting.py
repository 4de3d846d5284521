"""The seconds before a command can begin, in which torch is imported: a terminal does not stay empty meanwhile."""

import functools
import sys
from collections.abc import Callable

__all__ = ["COMPLETION", "after_loading"]

COMPLETION = "_ISOSPHERE_COMPLETE"
"""A variable of the environment by which a shell asks how a line can be completed."""

_NOTE = "Starting ..."


def after_loading(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command, which finds what it needs imported; while that takes its time, a terminal says so."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> int | None:
        shown = "torch" not in sys.modules and sys.stderr is not None and sys.stderr.isatty()
        if shown:
            print(_NOTE, end="\r", file=sys.stderr, flush=True)
        try:
            import isosphere.workflows  # noqa: F401
        finally:
            if shown:
                print(" " * len(_NOTE), end="\r", file=sys.stderr, flush=True)
        from isosphere.threads import settle_threads

        if (said := settle_threads()) and shown:
            print(said, file=sys.stderr)
        return command(*arguments, **options)

    return run
