"""Names with braces, as a shell has them."""

import itertools
import math
import re

from isosphere.errors import UsageError

_MOST = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def expand_braces(pattern: str) -> list[str]:
    """The names that braces stand for, as a shell has it: ``{000..003}`` counts, ``{a,b}`` lists.

    Raises: UsageError for braces that do not close, or more than 100,000 names, which are counted before they are made.
    """
    pieces, fields = _BRACES.split(pattern)[::2], _BRACES.findall(pattern)
    if any(c in piece for piece in pieces for c in "{}"):
        raise UsageError(f"{pattern} has a brace without its partner: type it as in train-{{000..003}}.tar.")
    if math.prod(map(_count, fields)) > _MOST:
        raise UsageError(f"{pattern} stands for more than {_MOST:,} files.")
    chosen = itertools.product(*map(_choices, fields))
    return ["".join(itertools.chain(*zip(pieces, (*words, ""), strict=True))) for words in chosen]


def _count(field: str) -> int:
    """How many names the inside of braces stands for."""
    between = _RANGE.fullmatch(field)
    return abs(int(between[2]) - int(between[1])) + 1 if between else field.count(",") + 1


def _choices(field: str) -> list[str]:
    between = _RANGE.fullmatch(field)
    if not between:
        return field.split(",")
    low, high = int(between[1]), int(between[2])
    step = 1 if low <= high else -1
    return [f"{k:0{len(between[1])}d}" for k in range(low, high + step, step)]
