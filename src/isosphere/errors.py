"""Errors that are addressed to a person: what was got, what was expected, what to type instead."""

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = [
    "ABBREVIATED",
    "IsosphereError",
    "NotFiniteError",
    "RemoteError",
    "RunError",
    "UsageError",
    "WriteError",
    "command",
    "for_a_shell",
    "listing",
    "nearest",
    "option",
    "out_of_memory",
    "plural",
    "printable",
    "shell",
    "wording",
]


class IsosphereError(Exception):
    """Base of the errors that the command line prints as one paragraph, without a traceback."""

    exit_code = 1


class RunError(IsosphereError):
    """The command was right and the work failed (exit code 1)."""

    exit_code = 1


class WriteError(RunError):
    """A file could not be written: a full disk, no permission."""


class NotFiniteError(RunError):
    """A loss, a gradient or a weight has left the range of numbers."""


class RemoteError(RunError):
    """Images behind an address cannot be read; the fault is not that of one image, and none is passed over."""


class UsageError(IsosphereError):
    """The command or its configuration was wrong; nothing was started (exit code 2)."""

    exit_code = 2


ABBREVIATED = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "arch": "encoder"}
"""What people type for a setting."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string if none is close."""
    listed = list(known)
    whole = ABBREVIATED.get(name.rpartition(".")[2])
    match = [known for known in listed if whole and known.rpartition(".")[2] == whole]
    match = match or [known for known in listed if known.casefold() == name.casefold()]
    match = match or difflib.get_close_matches(name, listed, n=1, cutoff=0.5)
    return f" Did you mean {_quoted(match[0])}?" if match else ""


def _quoted(name: str) -> str:
    """A name in quotes; one that cannot be shown as it would be typed."""
    if name == printable(name):
        return f"'{name}'"
    return _word(name) if _shell.get() else _literal(name)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out: Python's error, or what torch and the system raise in its place."""
    said = (
        *("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory"),
        "STATUS_ALLOC_FAILED",  # of cuBLAS and cuDNN
    )
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in said)
    )


def plural(count: float, one: str) -> str:
    """A number of things: ``1 image``, ``2,000 images``, ``1.5 epochs``."""
    return f"{count:,.4g} {one}s" if count % 1 else f"{count:,.0f} {one}{'' if count == 1 else 's'}"


# Controls of a terminal (ESC, CSI, ...), marks that turn the direction of writing, ends of lines that are none, and
# halves of characters, as names that are not UTF-8 hold them.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, lines: bool = False) -> str:
    """Text as a terminal, a log or a page may be given it: what would move the cursor, turn the direction of writing
    or cannot be encoded is written out, as in ``\\u001b``; so are tabs and ends of lines, unless `lines` are meant.

    What stands in quotes in JSON, YAML or Python reads back as it was.
    """
    text = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if lines else text.replace("\n", "\\n").replace("\t", "\\t")


# --- settings as the reader of a message would type them ----------------------------------------------------------

_shell: ContextVar[bool] = ContextVar("for a shell", default=False)


@contextmanager
def for_a_shell() -> Iterator[None]:
    """Within the block messages are for somebody at a command line; elsewhere for somebody who writes Python."""
    token = _shell.set(True)
    try:
        yield
    finally:
        _shell.reset(token)


def wording(*, shell: str, python: str) -> str:
    """Of two ways to say it the one for the reader of the message."""
    return shell if _shell.get() else python


def option(name: str, value: object = None) -> str:
    """A setting, with a value or as a switch (True), as the reader of the message would type it.

    ``option("batch_size", 64)`` is ``--batch-size 64`` or ``batch_size=64``; a key of the configuration,
    ``option("optim.clip", 1.0)``, is ``--set optim.clip=1.0`` or ``optim={"clip": 1.0}``. A value ``...`` is left to
    the reader; None names the setting alone.
    """
    section, dot, key = name.rpartition(".")
    if _shell.get():
        if dot:
            return name if value is None else f"--set {_word(f'{name}={_shown(value)}')}"
        flag = f"-{name}" if len(name) == 1 else f"--{name.rstrip('_').replace('_', '-')}"
        return flag if value is None or value is True else f"{flag} {_word(_shown(value))}"
    if dot:
        if value is None:
            return name
        # Images and method have these names as keywords.
        if section.startswith(("data", "method")):
            return f'set={{"{name}": {_literal(value)}}}'
        return f'{section}={{"{key}": {_literal(value)}}}'
    return name if value is None else f"{name}={_literal(value)}"


def command(name: str, *arguments: object, **options: object) -> str:
    """A command with its arguments: ``isosphere train DATA --out RUN`` or ``isosphere.train("DATA", out="RUN")``.

    Options that are None are left out.
    """
    chosen = [option(key, value) for key, value in options.items() if value is not None]
    if _shell.get():
        return " ".join(filter(None, ["isosphere", name, shell(*arguments), *chosen]))
    return f"isosphere.{name}({', '.join([*map(_literal, arguments), *chosen])})"


def listing(kind: str) -> str:
    """Where the names of a kind are listed: ``isosphere list methods``, or the table in Python."""
    tables = {
        "methods": "isosphere.methods.METHODS",
        "discrepancies": "isosphere.discrepancies.DISCREPANCIES",
        "encoders": "isosphere.models.encoder_names()",
        "presets": "isosphere.training.presets()",
    }
    return f"isosphere list {kind}" if _shell.get() else tables[kind]


def shell(*words: object) -> str:
    """Names on a command line, quoted where the shell needs it; one that begins with a hyphen is no option."""
    return " ".join(_word(f"./{word}" if str(word).startswith("-") else str(word)) for word in words)


def _word(text: str) -> str:
    if text == printable(text):
        return shlex.quote(text)
    # $'...' of bash and zsh: what cannot be shown is written as bytes, and the command can still be copied.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + printable(_UNSEEN.sub(_bytes, escaped)) + "'"


def _bytes(found: re.Match[str]) -> str:
    # A name that is not UTF-8 holds bytes as halves of characters.
    how = "surrogateescape" if "\udc80" <= found[0] <= "\udcff" else "replace"
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", how))


def _shown(value: object) -> str:
    return "..." if value is ... else f"{value:g}" if isinstance(value, float) else str(value)


def _literal(value: object) -> str:
    if value is ...:
        return "..."
    if isinstance(value, float):
        return f"{value:g}"
    plain = isinstance(value, (bool, int, list, tuple, dict)) or value is None
    return repr(value) if plain else printable(json.dumps(str(value), ensure_ascii=False), lines=True)
