"""A mistyped keyword is answered with the nearest one, as a mistyped flag is."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from isosphere.errors import UsageError, nearest

P = ParamSpec("P")
T = TypeVar("T")


def keywords_checked(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with a UsageError that names the nearest keyword in place of Python's TypeError."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if wrong := next((name for name in kwargs if name not in known), None):
            raise UsageError(
                f"There is no keyword '{wrong}'.{nearest(wrong, known)} Known: {', '.join(known)}."
            )
        return function(*args, **kwargs)

    return checked
