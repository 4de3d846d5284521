"""Configurations by name: the papers' recipes for each data set, and measured ones for small machines."""

from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from isosphere.errors import UsageError, nearest
from isosphere.training.merging import merge

__all__ = ["Preset", "presets", "read_preset"]


class Preset(NamedTuple):
    """One line about it, and sections of a configuration."""

    about: str
    values: dict[str, Any]


@cache
def presets() -> dict[str, Preset]:
    """Every preset by its name.

    A file of ``training/presets`` is one preset, or where it has ``variants`` one for each, named FILE-VARIANT: the
    file's own sections with the variant's on top. What a paper does not print is marked in the file.
    """
    found: dict[str, Preset] = {}
    for file in sorted((files("isosphere.training") / "presets").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".yaml"):
            continue
        sections = yaml.safe_load(file.read_text(encoding="utf-8"))
        name, about = file.name.removesuffix(".yaml"), sections.pop("about")
        variants = sections.pop("variants", None)
        if variants is None:
            found[name] = Preset(about, sections)
            continue
        for variant, own in variants.items():
            values: dict[str, Any] = {}
            merge(values, sections)
            merge(values, {key: value for key, value in own.items() if key != "about"})
            found[f"{name}-{variant}"] = Preset(f"{own['about']}; {about}", values)
    return found


def read_preset(name: str) -> dict[str, Any]:
    """The sections of a preset, to be changed at will.

    Raises: UsageError for an unknown name, with the nearest one.
    """
    known = presets()
    if name not in known:
        raise UsageError(f"There is no preset '{name}'.{nearest(name, known)} See isosphere list presets.")
    values: dict[str, Any] = {}
    merge(values, known[name].values)
    return values
