"""Where the first weights of an encoder come from, and what is said of them there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from isosphere.errors import RunError, UsageError, option
from isosphere.models._hub import CONFIG, HUB, WEIGHTS, fetch
from isosphere.models._record import Arguments, EncoderRecord, PretrainedCfg
from isosphere.models._small_conv import SMALL_CONV
from isosphere.models._timm import require_name
from isosphere.models._weights import WeightsFile
from isosphere.reading import UnreadableError, read_json

LOCAL = "local-dir:"
"""Begins the path of a folder in the Hub's layout, as in timm."""
LARGEST = 224
"""Pixels of a side that are taken unless more are asked for: four times of them take four times as long."""
_RECORD, _RUN = "encoder.json", "encoder.safetensors"


@dataclass(frozen=True)
class Start:
    """Weights to begin with: a file, with the architecture, arguments and pixels that are written beside it, where any
    are.
    """

    path: Path | None
    """None: random weights, or timm's own."""
    label: str = ""
    """What the user named it."""
    architecture: str | None = None
    arguments: Arguments | None = None
    cfg: PretrainedCfg | None = None
    record: EncoderRecord | None = None
    """Of our own weights."""

    @cached_property
    def weights(self) -> WeightsFile:
        """What the file holds. Raises: UsageError, RunError as :meth:`WeightsFile.read`."""
        assert self.path is not None
        return WeightsFile.read(self.path)

    def encoder(self, name: str | None) -> str:
        """The architecture: the one that is named, which is to be that of the weights.

        Raises: UsageError if it is another, or neither says one.
        """
        known = self.architecture
        if name is None and known is None:
            raise UsageError(
                f"{option('init', self.label)} does not tell its architecture: give {option('encoder')}."
            )
        if name is not None and known is not None and _plain(name) != _plain(known):
            raise UsageError(
                f"{option('init', self.label)} is of {known}, and {option('encoder', name)} was asked for: give "
                f"{option('encoder', known)}, or leave it out."
            )
        return name or known or ""

    def pixels(self, name: str) -> tuple[PretrainedCfg | None, bool]:
        """What the weights of this network were made for, and whether that is assumed: timm's first weights of an
        architecture stand for a file that says nothing.
        """
        if self.record is not None:
            cfg, size = self.record.pretrained_cfg, self.record.image_size
            sized = {"input_size": [self.record.in_chans, size, size]}
            return None if cfg is None else cfg.model_copy(update=sized), False
        return (self.cfg, False) if self.cfg is not None else (default_cfg(name), True)

    def size(self, name: str) -> int | None:
        """The side of the images that these weights were made for, and at most 224; None where nobody knows."""
        cfg, _ = self.pixels(name)
        own = self.record.image_size if self.record is not None else None if cfg is None else cfg.size
        return None if own is None else min(own, LARGEST)


def find_start(init: str | Path) -> Start:
    """The start of this name: ``random``, ``pretrained``, a file, a run's folder, one in the Hub's layout
    (``local-dir:`` or the path alone), or ``hf-hub:owner/name``, which is fetched.

    Raises: UsageError if there is none; RunError if it cannot be had, or what is written beside it is damaged.
    """
    label = str(init)
    if label in ("random", "pretrained"):
        return Start(None, label)
    folder = fetch(label.removeprefix(HUB)) if label.startswith(HUB) else Path(label.removeprefix(LOCAL))
    if folder.is_dir():
        return replace(_of_folder(folder), label=label)
    if not folder.is_file():
        raise UsageError(
            f"{option('init')}: no file '{label}'. Expected random, pretrained, a .safetensors or .pth file, the "
            f"folder of a run, or {HUB}OWNER/NAME."
        )
    return replace(_described(folder, _beside(folder)), label=label)


def _beside(weights: Path) -> Path:
    """Where the description of a file of weights lies, if there is one: a run's checkpoints have that of the run."""
    of_run = weights.parent.parent / _RECORD
    if weights.parent.name == "checkpoints" and of_run.is_file():
        return of_run
    named = {_RUN: _RECORD, **dict.fromkeys(WEIGHTS, CONFIG)}
    return weights.with_name(named.get(weights.name, f"{weights.stem}.json"))


def _of_folder(folder: Path) -> Start:
    """Weights and description of a run, or of a folder in the Hub's layout."""
    if (folder / _RECORD).is_file() and (folder / _RUN).is_file():
        return _described(folder / _RUN, folder / _RECORD)
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"{option('init')}: {folder} is a folder without weights that are known: expected {_RUN} with {_RECORD}, "
            f"as a run has them, or {WEIGHTS[0]} with {CONFIG}, as on the Hub. Or give a file in it."
        )
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UsageError(
            f"{option('init')}: {folder} has {CONFIG} and no weights: expected {' or '.join(WEIGHTS)}."
        )
    return _described(weights, folder / CONFIG)


def _described(weights: Path, description: Path) -> Start:
    """Weights with what a file beside them says. Raises: RunError if that is damaged."""
    if not description.is_file():
        return Start(weights)
    try:
        said = read_json(description)
    except UnreadableError as error:
        raise RunError(f"{description} cannot be read: {error}.") from None
    if not isinstance(said, dict):
        return Start(weights)
    if "name" in said and "feature_dim" in said:
        return _of_record(weights, EncoderRecord.parse(said, description))
    # A file of another kind may lie beside weights by chance.
    known = description.name == CONFIG or "pretrained_cfg" in said
    return _of_card(weights, description, said) if known and "architecture" in said else Start(weights)


def _of_record(weights: Path, record: EncoderRecord) -> Start:
    """Weights of our own, for images as they were trained on last."""
    arguments = Arguments(**(record.arguments or Arguments()).of_the_network)
    return Start(weights, architecture=record.name, arguments=arguments, record=record)


def _of_card(weights: Path, description: Path, said: Mapping[str, Any]) -> Start:
    """Weights in timm's layout, also its earlier one, in which all stands side by side."""
    name, arguments, cfg = (
        str(said["architecture"]),
        said.get("model_args") or {},
        said.get("pretrained_cfg") or said,
    )
    require_name(name)
    if not isinstance(arguments, dict) or not isinstance(cfg, dict):
        raise RunError(f"{description} is damaged: model_args and pretrained_cfg are to be mappings.")
    arguments = dict(arguments)
    for key in ("num_classes", "in_chans", "img_size", "dynamic_img_size", "strict_img_size"):
        arguments.pop(key, None)  # asked for by whoever builds it
    try:
        cfg = PretrainedCfg.of({**cfg, "architecture": name})
        return Start(weights, architecture=name, arguments=Arguments.model_validate(arguments), cfg=cfg)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{description} describes a {name} that cannot be built here: {key}: {first['msg'][:1].lower()}"
            f"{first['msg'][1:]} (got {str(first['input'])[:60]!r})."
        ) from None


def default_cfg(name: str) -> PretrainedCfg | None:
    """What timm says of its first weights of an architecture, or of those with a tag; None if it has none."""
    import timm

    cfg = None if name == SMALL_CONV else timm.get_pretrained_cfg(name)
    return None if cfg is None else PretrainedCfg.of({"architecture": _plain(name), **cfg.to_dict()})


def own_start(name: str | None, init: str | Path) -> tuple[str | None, int | None]:
    """The architecture of weights to begin with, where they or `name` tell it, and the size of images to take with
    them: their own, and at most 224 pixels; None for random ones, and where nobody knows.

    Raises: as :func:`find_start`; UsageError if `name` is another architecture.
    """
    start = find_start(init)
    if start.label == "random":
        return name, None
    if name is None and start.architecture is None:
        return None, None
    name = start.encoder(name)
    if name != SMALL_CONV:
        require_name(name)
    return name, start.size(name)


def _plain(name: str) -> str:
    """A name of timm's without its tag."""
    return name.partition(".")[0]
