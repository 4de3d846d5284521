"""Presets, files, ``key=value`` strings and flags become one configuration: reading, merging, what is refused."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from isosphere.errors import UsageError, listing, nearest, option
from isosphere.reading import UnreadableError, parse_yaml, read_yaml
from isosphere.training._config import Config, known_keys, parse_config

_OF_OPTIMISER = ("name", "learning_rate", "weight_decay", "momentum")


def load_config(
    file: str | Path | None = None,
    sets: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    preset: str | None = None,
) -> Config:
    """The configuration of a preset, changed by a file, that by ``key=value`` strings and by flags (dotted key ->
    value; None: not given).

    Later ones win; a key given by both of the last two is refused. With another method than the preset's its
    weight, options and widths do not apply, with another optimiser its learning rate, decay and momentum.

    Raises: UsageError that names the key, what was got, what was expected and what to type.
    """
    values: dict[str, Any] = {name: dict(section) for name, section in (base or {}).items()}
    given: dict[str, Any] = {} if file is None else _read(Path(file))
    typed: dict[str, tuple[str, Any]] = {}
    for text in sets:
        key, value = _split(text)
        typed[key] = (f"{option('set')} {text}", value)
    for key, value in (flags or {}).items():
        if value is None:
            continue
        if key in typed:
            raise UsageError(
                f"{key} is given twice, by {typed[key][0]} and by a setting of its own ({value}): leave one out."
            )
        typed[key] = (option(key), value)
    changes: dict[str, Any] = {}
    for key, (text, value) in typed.items():
        _put(changes, key, value, text)
    _merge(given, changes)
    if preset is not None:
        _merge(values, _without_what_goes(read_preset(preset), given))
        _as_many_textures(values, given)
    _merge(values, given)
    return parse_config(values)


def _without_what_goes(preset: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The preset, less what belongs to a method or an optimiser that is not wanted."""
    parts = {name: dict(section) for name, section in preset.items()}
    going = {"method": {"method": None, "model": ("dim", "hidden")}, "optim": {"optim": _OF_OPTIMISER}}
    for chooser, sections in going.items():
        wanted = given.get(chooser)
        name = wanted.get("name") if isinstance(wanted, Mapping) else None
        if name is None or name == parts.get(chooser, {}).get("name"):
            continue
        for section, keys in sections.items():
            old = parts.get(section, {})
            parts[section] = {} if keys is None else {k: v for k, v in old.items() if k not in keys}
    return parts


def _as_many_textures(preset: Mapping[str, Any], given: dict[str, Any]) -> None:
    """A family of textures that is named alone is taken in the number and size of the preset's."""
    theirs, ours = (str((each.get("data") or {}).get("source") or "") for each in (preset, given))
    if theirs.startswith("textures:") and ours.startswith("textures:") and "?" in theirs and "?" not in ours:
        _merge(given, {"data": {"source": f"{ours}?{theirs.partition('?')[2]}"}})


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UsageError(
            f"{option('config')} {path}: there is no such file. A run's config.yaml serves as an example."
        )
    try:
        values = read_yaml(path)
    except UnreadableError as error:
        raise UsageError(f"{option('config')} {path} cannot be used: {error}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{option('config')} {path}: got a {type(values).__name__}, expected sections "
            f"({', '.join(Config.model_fields)}), "
            "for example 'train: {epochs: 10}'."
        )
    return {str(key): value for key, value in values.items()}


def _split(text: str) -> tuple[str, Any]:
    key, equals, written = text.partition("=")
    key = key.strip()
    try:
        value = parse_yaml(written)
    except UnreadableError:
        value = written
    # What is typed has no comments: #ff8800 is a colour, and a folder may be called "run #2".
    if (
        (value is None or isinstance(value, str))
        and re.search(r"(^|\s)#", written)
        and written.strip()[0] not in "'\""
    ):
        value = written.strip()
    if not equals or "." not in key:
        keys = [k for k in known_keys() if k.split(".", 1)[1] == key.split(".")[-1]]
        example = option(keys[0], value if equals else ...) if keys else option("optim.learning_rate", 0.001)
        raise UsageError(f"{option('set')} {text}: expected section.key=value, for example {example}.")
    return key, value


def _put(values: dict[str, Any], key: str, value: Any, text: str) -> None:
    *path, last = key.split(".")
    target = values
    for part in path:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(f"{text}: {part} is a value, not a section.{nearest(key, known_keys())}")
    target[last] = value


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Let `changes` win over `values`, key by key; a new length of the run replaces the old one of either kind."""
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


# --- presets -------------------------------------------------------------------------------------------------


class Preset(NamedTuple):
    """One line about it, and sections of a configuration."""

    about: str
    values: dict[str, Any]


@cache
def presets() -> dict[str, Preset]:
    """Every preset by its name.

    A file of ``training/presets`` is one preset, or where it has ``variants`` one for each, named FILE-VARIANT: the
    file's own sections with the variant's on top; and for each of what it is ``also``, one named FILE-VARIANT-ALSO.
    What a paper does not print is marked in the file.
    """
    found: dict[str, Preset] = {}
    for file in sorted((files("isosphere.training") / "presets").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".yaml"):
            continue
        sections = parse_yaml(file.read_text(encoding="utf-8"))
        name, about = file.name.removesuffix(".yaml"), sections.pop("about")
        variants = sections.pop("variants", None)
        if variants is None:
            found[name] = Preset(about, sections)
            continue
        for variant, own in variants.items():
            line, also = own.pop("about"), own.pop("also", {})
            found[f"{name}-{variant}"] = Preset(f"{line}; {about}", _merged(sections, own))
            for reading, other in also.items():
                found[f"{name}-{variant}-{reading}"] = Preset(
                    f"{line}; {other.pop('about')}; {about}", _merged(sections, own, other)
                )
    return found


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of which later ones win, to be changed at will."""
    values: dict[str, Any] = {}
    for layer in layers:
        _merge(values, layer)
    return values


def read_preset(name: str) -> dict[str, Any]:
    """The sections of a preset, to be changed at will.

    Raises: UsageError for an unknown name, with the nearest one.
    """
    known = presets()
    if name not in known:
        raise UsageError(f"There is no preset '{name}'.{nearest(name, known)} See {listing('presets')}.")
    return _merged(known[name].values)
