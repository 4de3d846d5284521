"""The one place that reads small files of text: regular files of a bounded size, JSON and YAML without surprises."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.error import MarkedYAMLError

__all__ = ["UnreadableError", "parse_yaml", "read_json", "read_text", "read_yaml", "require_regular"]

_TEXT, _JSON, _YAML = 2**28, 2**26, 2**20
"""Bytes that a file has at the most: many times those that are written here; YAML is slow to read."""


class UnreadableError(ValueError):
    """Why a file, or a text, is not what it should be, in a few words."""


def require_regular(file: Path | int) -> os.stat_result:
    """What the system says of a file, by its path or its descriptor.

    Raises: OSError if it is none, or a folder, a pipe (it would be waited for), a device (it never ends).
    """
    state = os.stat(file)  # noqa: PTH116  (descriptors too)
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return state


def read_text(path: Path, *, errors: str = "strict", most: int = _TEXT) -> str:
    """The text of a file of at most so many bytes, in UTF-8.

    Raises: UnreadableError if there is none, it is no regular file (a pipe would be waited for, a device never ends),
        too large, or of bytes that are no text.
    """
    try:
        # A pipe without a writer is opened only so.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            require_regular(file.fileno())
            content = file.read(most + 1)
    except OSError as error:
        raise UnreadableError((error.strerror or str(error)).lower()) from None
    if len(content) > most:
        raise UnreadableError(f"it is larger than {most >> 20} MiB")
    try:
        return content.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is no text in UTF-8 (byte {error.start:,})") from None


def read_json(path: Path, *, most: int = _JSON) -> Any:
    """What a file of JSON of at most so many bytes holds. Raises: UnreadableError."""
    text = read_text(path, most=most)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"it is not JSON: {error.msg.lower()}, line {error.lineno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets without an end
        raise UnreadableError("it is not JSON that anybody wrote") from None


def read_yaml(path: Path) -> Any:
    """What a file of YAML holds. Raises: UnreadableError."""
    return parse_yaml(read_text(path, most=_YAML))


def parse_yaml(text: str) -> Any:
    """Plain values of YAML.

    Raises: UnreadableError for what is none, for tags, and for aliases: they make a page of text a terabyte of values,
        or a list that holds itself.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UnreadableError(f"it is not valid YAML{where}: {problem}") from None
    except (ValueError, OverflowError, RecursionError) as error:  # a month of 99, brackets without an end
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise UnreadableError(f"it is not valid YAML: {said}") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise MarkedYAMLError(None, None, "aliases (*name) are not taken", mark)
        return super().compose_node(parent, index)
