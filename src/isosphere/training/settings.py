"""From a file, ``key=value`` strings and flags to one configuration: reading, merging, and what is refused."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from isosphere.errors import UsageError, nearest
from isosphere.training.config import Config, known_keys, parse_config

__all__ = ["load_config"]


def load_config(
    file: str | Path | None = None,
    sets: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of a file, changed by ``key=value`` strings and by flags (dotted key -> value; None:
    not given).

    Later ones win over the file; a key given both by ``--set`` and by its flag is refused.

    Raises: UsageError that names the key, what was got, what was expected and what to type.
    """
    values: dict[str, Any] = {name: dict(section) for name, section in (base or {}).items()}
    if file is not None:
        _merge(values, _read(Path(file)))
    typed: dict[str, tuple[str, Any]] = {}
    for text in sets:
        key, value = _split(text)
        typed[key] = (f"--set {text}", value)
    for key, value in (flags or {}).items():
        if value is None:
            continue
        if key in typed:
            raise UsageError(
                f"{key} is given twice, by {typed[key][0]} and by its own flag ({value}): leave one out."
            )
        typed[key] = (f"--set {key}", value)
    changes: dict[str, Any] = {}
    for key, (text, value) in typed.items():
        _put(changes, key, value, text)
    _merge(values, changes)
    return parse_config(values)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UsageError(f"--config {path}: there is no such file. A run's config.yaml serves as an example.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"--config {path} is not valid YAML{where}: {problem}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} cannot be read as text: {error}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"--config {path}: got a {type(values).__name__}, expected sections "
            f"({', '.join(Config.model_fields)}), "
            "for example 'train: {epochs: 10}'."
        )
    return {str(key): value for key, value in values.items()}


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
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


def _split(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or "." not in key:
        keys = [k for k in known_keys() if k.split(".", 1)[1] == key.split(".")[-1]]
        example = f"--set {keys[0]}={value or 'VALUE'}" if keys else "--set optim.learning_rate=0.001"
        raise UsageError(f"--set {text}: expected section.key=value, for example {example}.")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value


def _put(values: dict[str, Any], key: str, value: Any, text: str) -> None:
    *path, last = key.split(".")
    target = values
    for part in path:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(f"{text}: {part} is a value, not a section.{nearest(key, known_keys())}")
    target[last] = value
