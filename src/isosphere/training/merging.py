"""One configuration laid over another."""

from collections.abc import Mapping
from typing import Any

__all__ = ["merge"]


def merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Let `changes` win over `values`, key by key; a new length of the run replaces the old one of either
    kind.
    """
    for section, content in changes.items():
        old = values.get(section)
        if section == "train" and isinstance(content, Mapping) and isinstance(old, dict):
            lengths = {"epochs", "minutes"}
            if any(content.get(key) is not None for key in lengths):
                values[section] = {key: value for key, value in old.items() if key not in lengths}
        old = values.get(section)
        if isinstance(content, Mapping) and isinstance(old, dict):
            nested = {key: dict(old[key]) for key in content if isinstance(old.get(key), Mapping)}
            for key, value in content.items():
                old[key] = {**nested[key], **value} if key in nested and isinstance(value, Mapping) else value
        elif content is not None:
            values[section] = dict(content) if isinstance(content, Mapping) else content
