"""Some of the classes of a source, by a file that lists them: ImageNet-100 from ImageNet."""

import difflib
from contextlib import suppress
from pathlib import Path

import numpy as np

from isosphere.errors import UsageError

from ._home import expanded
from ._limits import read_text, reason_of
from ._source import Source

CLASS_LIST = "?classes="
"""What stands between a source and the file of its class list."""


def class_list_of(text: str) -> tuple[str, str]:
    """A source and the file of its class list, of a text that names both; an empty file for any other text, and for the
    name of a folder that has the mark in it.
    """
    whole, mark, classes = text.rpartition(CLASS_LIST)
    with suppress(OSError, ValueError, RuntimeError):
        if not mark or expanded(text).exists():
            return text, ""
    return whole, classes


def read_class_list(file: str | Path) -> list[str]:
    """The names in a file, one a line; what follows a ``#`` and empty lines are left out.

    Raises: UsageError if the file cannot be read, or names nothing.
    """
    try:
        lines = read_text(expanded(file)).splitlines()
    except (OSError, ValueError) as error:
        reason = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        raise UsageError(f"the class list {file} cannot be read ({reason}).") from error
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise UsageError(
            f"the class list {file} names no class; expected one name a line, such as n01440764."
        )
    return list(dict.fromkeys(names))


def only_classes(source: Source, file: str | Path) -> Source:
    """The images of the classes that a file lists, in the order of the source.

    A line may go on after the name of a class (``n01440764 tench``).

    Raises: UsageError for a name that is no class of the source, with the nearest one.
    """
    names, known = read_class_list(file), set(source.class_names)
    if not known:
        raise UsageError(
            f"{source.name} has no classes, and the class list {file} asks for {len(names)} of them: expected a folder "
            "for each class, or labels in the file."
        )
    chosen = {name if name in known else name.split()[0] for name in names}
    unknown = [name for name in names if name not in known and name.split()[0] not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], source.class_names, n=1, cutoff=0.5)
        guess = f" Did you mean '{close[0]}'?" if close else ""
        count = f"{len(unknown)} of its {len(names)} names are" if len(unknown) > 1 else "this name is"
        raise UsageError(
            f"the class list {file} names '{unknown[0]}', and {count} none of the {len(known)} classes of "
            f"{source.name}.{guess}"
        )
    wanted = np.array(
        [name in chosen for name in source.class_names] + [False]
    )  # the last is that of label -1
    part = source.subset(np.flatnonzero(wanted[source.labels]))
    return part.with_class_names([name for name in source.class_names if name in chosen])
