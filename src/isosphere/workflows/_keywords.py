"""Arguments in Python are checked before any work: a mistyped keyword is answered with the nearest one, as a mistyped
flag is, and a value of another kind with what was expected.
"""

import inspect
import math
import os
from collections.abc import Callable, Collection
from functools import wraps
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from isosphere.data import MOST_PASSES
from isosphere.errors import UsageError, nearest, option

P = ParamSpec("P")
T = TypeVar("T")


class ArgumentError(UsageError, ValueError):
    """A UsageError that is caught as Python's ValueError, too."""


def _whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, Integral) and not isinstance(x, bool) and least <= int(x) <= most


def _name(x: Any) -> bool:
    return isinstance(x, str | os.PathLike)


def _names(x: Any) -> bool:
    return isinstance(x, str) or (isinstance(x, Collection) and all(isinstance(each, str) for each in x))


def _cosine(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool) and -1 < float(x) <= 1


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch_size": (_whole(1), "a whole number from 1"),
    "epoch": (_whole(0), "a whole number, of an epoch"),
    "format": (lambda x: isinstance(x, str), "a name, such as onnx"),
    "k": (_whole(1), "a whole number from 1"),
    "limit": (lambda x: x is None or _whole(2)(x), "at least 2 images"),
    "opset": (_whole(1), "a whole number"),
    "passes": (_whole(1, MOST_PASSES), f"a whole number from 1 to {MOST_PASSES}"),
    "path": (_name, "the folder of a run"),
    "progress": (
        lambda x: x is None or isinstance(x, bool) or callable(x),
        "False, or a function (done, total)",
    ),
    "run": (lambda x: _name(x) or hasattr(x, "folder"), "a run, or its folder"),
    "tasks": (_names, "a name, or a list of names"),
    "threshold": (_cosine, "a cosine above -1 and at most 1"),
    "workers": (_whole(0, 128), "a whole number of processes from 0 to 128"),
}
"""What arguments of these names are, wherever they are; None where it is the default."""


def keywords_checked(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with a UsageError that names the nearest keyword in place of Python's TypeError, and one for an
    argument that is no such thing as its name says.
    """
    signature = inspect.signature(function)
    known = [name for name in signature.parameters if name != "self"]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if wrong := next((name for name in kwargs if name not in known), None):
            raise UsageError(
                f"There is no keyword '{wrong}'.{nearest(wrong, known)} Known: {', '.join(known)}."
            )
        for name, value in {**dict(zip(signature.parameters, args, strict=False)), **kwargs}.items():
            fits, expected = _KINDS.get(name, (None, ""))
            absent = value is None and signature.parameters[name].default is None
            if fits is not None and not absent and not fits(value):
                raise ArgumentError(f"{option(name)}: got {repr(value)[:60]}, expected {expected}.")
        if kwargs.get("progress") is False and signature.parameters["progress"].default is None:
            kwargs["progress"] = None  # as of the calls that can show a bar of their own
        return function(*args, **kwargs)

    return checked
