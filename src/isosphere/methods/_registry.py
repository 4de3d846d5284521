"""Methods by name: each is registered where its class stands, and built from a name and options."""

__all__ = ["METHODS", "MethodEntry", "alias", "build_method", "check_options", "method", "option_names"]

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from isosphere.discrepancies import DISCREPANCIES, build_discrepancy
from isosphere.errors import UsageError, listing, nearest, option, wording
from isosphere.methods._base import Method
from isosphere.models import Encoder

_TESTS = ("discrepancy", "regulariser")
"""Options that name a discrepancy: options that the method does not know go there."""

_SYNONYMS = {"discrepancy": "regulariser", "ema": "teacher"}
"""Options that are another one where a method does not have them."""

_BY_OTHERS = {"self", "cls", "encoder", "head", "predictor", "global_views", "dim", "kernel", "group"}
_WIDTHS = {"dim", "hidden"}
_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", NoneType: "null"}


class MethodEntry(NamedTuple):
    """A row of the list of methods; an alias is another name of ``of`` with some options.

    Example:
        >>> METHODS["lejepa"].of, dict(METHODS["lejepa"].options)
        ('jepa', {'discrepancy': 'sigreg'})
    """

    name: str
    paper: str
    summary: str
    owner: type[Method]
    of: str | None = None
    options: Mapping[str, Any] = {}
    open: tuple[str, ...] = ()

    def build(self, encoder: Encoder, **options: Any) -> Method:
        """The method around an encoder, with a fresh head."""
        return self.owner.from_encoder(encoder, **{**self.options, **options})  # type: ignore[attr-defined]

    @property
    def canonical(self) -> str:
        """What an alias stands for, as the reader would type it; empty for a method."""
        return "" if self.of is None else _typed(self.of, self.options)


def _typed(method: str, options: Mapping[str, Any]) -> str:
    """A method with options, as the reader would type it."""
    own = {"discrepancy": "discrepancy", "teacher": "ema", "regulariser": "method.regulariser"}
    said = [option(own.get(key, f"method.options.{key}"), value) for key, value in options.items()]
    return " ".join([option("method", method), *said])


METHODS: dict[str, MethodEntry] = {}

F = TypeVar("F")


class method:  # noqa: N801  (a decorator)
    """Register a class under a name: ``@method("simclr", paper=..., summary=...)`` above its ``from_encoder``.

    That class method, ``from_encoder(encoder, *, global_views=2, ...)``, builds the method around an encoder. Its
    keywords, with those of the constructor where it passes others on, are the options of the method by name.

    Example:
        >>> METHODS["simclr"].paper
        'SimCLR, arXiv 2002.05709'
        >>> option_names("simclr")
        ['temperature']
    """

    def __init__(self, name: str, *, paper: str, summary: str) -> None:
        known = METHODS.get(name)
        if known is not None and known.name == name and known.owner.__module__.startswith("isosphere."):
            raise ValueError(f"got the name {name!r}, which is a method of isosphere: give yours another")
        self.name, self.paper, self.summary = name, paper, summary

    def __call__(self, function: F) -> F:
        if not isinstance(function, classmethod):
            raise TypeError(
                f"method({self.name!r}) stands above a class method: write @method(...) above @classmethod"
            )
        self.function = function
        return cast(F, self)

    def __set_name__(self, owner: type[Method], attribute: str) -> None:
        setattr(owner, attribute, self.function)
        METHODS[self.name] = MethodEntry(self.name, self.paper, self.summary, owner)


def alias(
    name: str, of: str, *, paper: str, summary: str, open: tuple[str, ...] = (), **options: Any
) -> None:
    """Another name for the method ``of`` with these options, which can be changed but for the discrepancy, unless
    ``open`` names it.
    """
    METHODS[name] = MethodEntry(name, paper, summary, METHODS[of].owner, of, options, open)


def build_method(
    name: str,
    encoder: Encoder,
    *,
    global_views: int = 2,
    **options: Any,
) -> Method:
    """Build the method ``name`` around an encoder, with a fresh head.

    ``options`` are the head's widths (``dim``, ``hidden``; left out: the method's own), the method's (``weight``,
    ``expansion``, ``cutoff``, ``teacher``, ...) or its discrepancy's (``num_slices``, ...).

    Raises:
        UsageError: an unknown name or option, or a value that the method refuses.
    """
    options = check_options(name, options)
    try:
        return METHODS[name].build(encoder, global_views=global_views, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Method '{name}' was refused: {error}.") from error


# --- options -------------------------------------------------------------------------------------------------


def option_names(name: str) -> list[str]:
    """Options that a method takes by name, those of its discrepancy included."""
    entry = METHODS[name]
    fixed = {key for key in entry.options if key in _TESTS and key not in entry.open}
    own = _own(entry.owner)
    tested = {**_defaults(entry.owner), **entry.options}
    return [*(key for key in own if key not in fixed), *_of_test(own, tested)]


def _parameters(function: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Arguments that can be given by name, and whether others are passed on."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    named = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


@lru_cache(maxsize=64)
def _signature(owner: type[Method]) -> dict[str, inspect.Parameter]:
    named, passed_on = _parameters(owner.from_encoder)  # type: ignore[attr-defined]
    return {**_parameters(owner.__init__)[0], **named} if passed_on else named


def _own(owner: type[Method]) -> dict[str, Any]:
    """The method's own options with their annotations: what can be typed."""
    kinds = {name: parameter.annotation for name, parameter in _signature(owner).items()}
    hidden = _BY_OTHERS | _WIDTHS
    return {
        name: kind
        for name, kind in kinds.items()
        if name not in hidden and _words(kind) not in ([], ["null"])
    }


def _defaults(owner: type[Method]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in _signature(owner).items()}


@lru_cache(maxsize=64)
def _of_discrepancy(name: str) -> dict[str, Any]:
    named, passed_on = _parameters(DISCREPANCIES[name].build)
    if passed_on:
        named |= _parameters(type(build_discrepancy(name, 8)).__init__)[0]
    return {key: parameter.annotation for key, parameter in named.items() if key not in _BY_OTHERS}


def _test_of(own: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which option names the discrepancy here, and its name; None where there is none by name."""
    found = [(key, options[key]) for key in _TESTS if key in own and isinstance(options.get(key), str)]
    return found[0] if found else None


def _of_test(own: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    test = _test_of(own, options)
    if test is None or test[1] not in DISCREPANCIES:
        return {}
    return {key: kind for key, kind in _of_discrepancy(test[1]).items() if key not in own}


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method, numbers that came as text turned into numbers, those of a discrepancy bound to it.

    Raises:
        UsageError: an unknown method or option (the nearest name is said), a value of the wrong kind, an option that
            the name stands for.
    """
    if name not in METHODS:
        raise UsageError(f"Unknown method '{name}'.{nearest(name, METHODS)} See {listing('methods')}.")
    entry = METHODS[name]
    own, given = _own(entry.owner), dict(options)
    for said, meant in _SYNONYMS.items():
        if said in given and said not in own and meant in own:
            if meant in given:
                raise UsageError(f"Method '{name}': {said} and {meant} are the same here, give one of them.")
            given[meant] = given.pop(said)
    for key in _TESTS:
        if key in given and key in entry.options and key not in entry.open:
            instead = _typed(entry.of or name, {k: given.get(k, v) for k, v in entry.options.items()})
            raise UsageError(
                f"Method '{name}' is {entry.canonical}, and cannot have another {key}: give {instead}."
            )
    asked = {**_defaults(entry.owner), **entry.options, **given}
    test = _test_of(own, asked)
    if test is not None and test[1] not in DISCREPANCIES:
        build_discrepancy(test[1], 8)  # says so
    theirs = _of_test(own, asked)
    mine, bound = {}, {}
    for key, value in given.items():
        if key in own:
            mine[key] = _converted(name, key, value, own[key])
        elif key in _WIDTHS:
            mine[key] = value
        elif key in theirs:
            bound[key] = _converted(name, key, value, theirs[key])
        else:
            known = dict.fromkeys([*option_names(name), *theirs])
            there = f"Its options: {', '.join(known)}." if known else "It has none."
            raise UsageError(
                f"Method '{name}' has no option '{key}'.{nearest(key, known)} {there}{_elsewhere(key, value, own)}"
            )
    if test is not None and bound:
        mine[test[0]] = partial(build_discrepancy, test[1], **bound)
    return mine


def _elsewhere(key: str, value: Any, own: Mapping[str, Any]) -> str:
    """Where a discrepancy is given if not by this option: by another one, or to another method."""
    if key not in _TESTS:
        return ""
    if "discrepancy" in own:
        return f" Its regulariser is {option('discrepancy', value)}."
    those = [e.name for e in METHODS.values() if e.of is None and set(_TESTS) & _own(e.owner).keys()]
    return f" Methods that take a discrepancy: {', '.join(those)}."


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _words(kind: Any) -> list[str]:
    """What can be typed for an annotation, in words."""
    words = [
        ", ".join(map(repr, get_args(c))) if get_origin(c) is Literal else _WORDS.get(c)
        for c in _choices(kind)
    ]
    return [word for word in words if word is not None]


def _converted(method: str, name: str, value: Any, kind: Any) -> Any:
    """``value`` if it is of the annotated kind, or the number that a text spells."""
    choices = _choices(kind)
    if any(_fits(value, choice) for choice in choices):
        return value
    if float in choices and isinstance(value, str):
        try:
            return float(value)  # YAML takes 1e-3 for text
        except ValueError:
            pass
    one = next((get_args(choice)[0] for choice in choices if get_origin(choice) is Literal), ...)
    typed = wording(
        shell=f"Type {option(f'method.options.{name}', one)}.", python=f"Give {option(name, one)}."
    )
    raise UsageError(
        f"Method '{method}', option '{name}': got {value!r}, expected {' or '.join(_words(kind))}. {typed}"
    )


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of one annotated kind; functions, which nobody can type, are taken where one is expected."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind if kind in _WORDS else callable(value)
