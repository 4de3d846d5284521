"""The seconds before a command can begin, in which torch is imported: a terminal does not stay empty meanwhile."""

import atexit
import functools
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["COMPLETION", "after_loading"]

COMPLETION = "_ISOSPHERE_COMPLETE"
"""A variable of the environment by which a shell asks how a line can be completed."""

_NOTE = "Starting ..."


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Where torch is imported within the block: hundreds of thousands of objects that stay are not looked through for
    garbage, then or later; a sixth of the time.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
        atexit.register(gc.unfreeze)  # modules written in C look for what was left at the end
    finally:
        gc.enable()


def after_loading(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command, which finds what it needs imported; while that takes its time, a terminal says so."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> int | None:
        shown = "torch" not in sys.modules and sys.stderr is not None and sys.stderr.isatty()
        if shown:
            print(_NOTE, end="\r", file=sys.stderr, flush=True)
        try:
            with _no_garbage():
                import isosphere.workflows  # noqa: F401
        finally:
            if shown:
                print(" " * len(_NOTE), end="\r", file=sys.stderr, flush=True)
        from isosphere.threads import settle_threads

        if (said := settle_threads()) and shown:
            print(said, file=sys.stderr)
        return command(*arguments, **options)

    return run
