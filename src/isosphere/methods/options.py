"""Options of a method by name: which there are, and whether a value will do."""

__all__ = ["check_options", "option_names"]

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from isosphere.discrepancies import DISCREPANCIES, build_discrepancy
from isosphere.errors import UsageError, nearest, option

_BY_OTHERS = {"self", "encoder", "global_views", "dim", "kernel", "group"}
_WIDTHS = {"dim", "hidden"}
_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", NoneType: "null"}


def _keywords(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Annotations of the arguments that can be given by name, and whether others are passed on."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    named = {p.name: p.annotation for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


@lru_cache(maxsize=64)
def _of_discrepancy(name: str) -> dict[str, Any]:
    named, passed_on = _keywords(DISCREPANCIES[name].build)
    if passed_on:
        named |= _keywords(type(build_discrepancy(name, 8)).__init__)[0]
    return {key: kind for key, kind in named.items() if key not in _BY_OTHERS}


def _kinds(build: Callable[..., Any], discrepancy: str | None) -> tuple[dict[str, Any], bool]:
    """Annotation of every option, and whether options beyond them are taken."""
    named, passed_on = _keywords(build)
    own = {key: kind for key, kind in named.items() if key not in _BY_OTHERS | _WIDTHS}
    if passed_on and discrepancy is not None:
        return own | {k: v for k, v in _of_discrepancy(discrepancy).items() if k not in own}, False
    return own, passed_on


def option_names(build: Callable[..., Any], discrepancy: str | None = None) -> list[str]:
    """Options that ``build`` takes by name, those that it hands to the named discrepancy included."""
    return list(_kinds(build, discrepancy)[0])


def check_options(
    method: str, build: Callable[..., Any], options: Mapping[str, Any], discrepancy: str | None = None
) -> dict[str, Any]:
    """The options, numbers that came as text turned into numbers.

    Raises: UsageError for an unknown one, with the nearest name, and for a value of the wrong kind.
    """
    kinds, open_ended = _kinds(build, discrepancy)
    checked = {}
    for name, value in options.items():
        if name in kinds:
            value = _converted(method, name, value, kinds[name])
        elif name not in _WIDTHS and not open_ended:
            there = f"Its options: {', '.join(kinds)}." if kinds else "It has none."
            raise UsageError(f"Method '{method}' has no option '{name}'.{nearest(name, kinds)} {there}")
        checked[name] = value
    return checked


def _converted(method: str, name: str, value: Any, kind: Any) -> Any:
    """``value`` if it is of the annotated kind, or the number that a text spells."""
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if any(_fits(value, choice) for choice in choices):
        return value
    if float in choices and isinstance(value, str):
        try:
            return float(value)  # YAML takes 1e-3 for text
        except ValueError:
            pass
    expected = [
        ", ".join(repr(word) for word in get_args(c)) if get_origin(c) is Literal else _WORDS[c]
        for c in choices
    ]
    raise UsageError(
        f"Method '{method}', option '{name}': got {value!r}, expected {' or '.join(expected)}. "
        f"Type {option(f'method.options.{name}', ...)}."
    )


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of one annotated kind; an annotation that nobody can type on a command line takes any."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return kind not in _WORDS or type(value) is kind
