"""Encoders: a timm backbone, or the small convolutional one, with what is needed to rebuild it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.errors import RunError, UsageError, option
from isosphere.models._freezing import depths, freeze_batch_norm, freeze_stages
from isosphere.models._inspection import evaluation_mode
from isosphere.models._loading import load
from isosphere.models._record import Arguments, CropMode, EncoderRecord, PretrainedCfg, Stem
from isosphere.models._small_conv import SMALL_CONV, SmallConv
from isosphere.models._start import Start, find_start
from isosphere.models._timm import (
    adapted,
    build_timm,
    own_size,
    require_drop_path,
    require_name,
    timm_names,
    width_of,
)
from isosphere.models._weights import WeightsFile, stem_of

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as timm's IMAGENET_DEFAULT_MEAN and _STD."""


class Encoder(nn.Module):
    """Images ``(n, in_chans, h, w)``, normalised by ``mean`` and ``std``, to features ``(n, feature_dim)``.

    ``spec()`` is a JSON-able description from which :meth:`from_spec` rebuilds the same architecture: the stem and the
    arguments that timm's constructor was given belong to it. Where ``crop_pct`` is given, pictures are read by timm's
    evaluation transform with it, ``crop_mode`` and ``interpolation``: that of the first weights. ``origin`` says in
    words which weights it was given at first, ``start`` is their digest, where a training has taken it;
    ``pretrained_cfg`` is what timm says of them, ``assumed`` where it is said of timm's first weights of the
    architecture, because theirs say nothing. All None for random ones.
    """

    arguments: Arguments
    stem: Stem | None
    assumed: bool | None = None

    def __init__(
        self,
        name: str,
        *,
        image_size: int,
        in_chans: int = 3,
        pretrained: bool = False,
        stem: Stem | None = None,
        arguments: Arguments | None = None,
        extra: Arguments | None = None,
    ):
        super().__init__()
        self.name, self.image_size, self.in_chans = name, image_size, in_chans
        self.start: str | None = None
        self.origin: str | None = None
        self._cfg: PretrainedCfg | None = None
        self._still: tuple[str, ...] = ()
        self.arguments, self.stem = Arguments(), None
        if name == SMALL_CONV:
            if pretrained:
                raise UsageError(
                    f"small-conv has no pretrained weights: give {option('init', 'random')}, a file, or a timm encoder."
                )
            self.backbone: nn.Module = SmallConv(in_chans)
        else:
            self.backbone, self.arguments, self.stem = build_timm(
                name,
                image_size=image_size,
                in_chans=in_chans,
                pretrained=pretrained,
                stem=stem,
                arguments=arguments,
                extra=extra,
            )
        self.feature_dim = width_of(self.backbone)
        config = getattr(self.backbone, "pretrained_cfg", {})
        self.mean = _of_each(config.get("mean", _MEAN), in_chans)
        self.std = _of_each(config.get("std", _STD), in_chans)
        self.interpolation = "bicubic"
        self.crop_pct: float | None = None
        self.crop_mode: CropMode | None = None
        if pretrained:
            tag = f".{config['tag']}" if config.get("tag") else ""
            self.origin = f"timm's weights {config.get('architecture', name)}{tag}"
            self._cfg, self.assumed = PretrainedCfg.of(config), False
            if self._cfg is not None:
                self._read_as(self._cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def freeze(self, stages: int = 0, *, batch_norm: bool = False) -> None:
        """Keep the first `stages` of the backbone, the stem being the first, and with `batch_norm` every batch norm as
        they are: no gradient, and evaluation mode in training too, so that running statistics neither move nor are
        replaced by those of a batch.

        Raises: UsageError if no stage would be left to learn, or timm does not know them.
        """
        still = freeze_stages(self.backbone, self.name, stages)
        self._still = (*still, *(freeze_batch_norm(self.backbone) if batch_norm else ()))

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        for name in self._still:
            self.backbone.get_submodule(name).eval()
        return self

    def layers(self) -> dict[str, int]:
        """The layer of each parameter, from the input on, by its name here. Raises: UsageError as :meth:`freeze`."""
        return {f"backbone.{key}": layer for key, layer in depths(self.backbone, self.name).items()}

    @property
    def own_size(self) -> int | None:
        """The size of the images that timm's network was made for; None for our own."""
        return own_size(self.backbone)

    @property
    def pretrained_cfg(self) -> dict[str, Any] | None:
        """What timm calls so, of the first weights: input_size, interpolation, crop_pct, mean, std, ..."""
        return None if self._cfg is None else self._cfg.as_mapping()

    def load(self, weights: WeightsFile, *, partial: bool = False) -> None:
        """Take the weights of a file. Raises: UsageError or RunError, as :func:`isosphere.models._loading.load`."""

        def adapt(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return adapted(
                self.name,
                tensors,
                own=self.backbone.state_dict(),
                in_chans=self.in_chans,
                arguments=self.arguments,
            )

        of_timm = self.name != SMALL_CONV and self.stem != "small"
        self.origin = load(
            self.backbone, self.name, weights, adapt=adapt if of_timm else None, partial=partial
        )

    def take(self, start: Start, *, partial: bool = False) -> None:
        """Take weights, and pictures as they were made for. Raises: as :meth:`load`."""
        self.load(start.weights, partial=partial)
        cfg, assumed = start.pixels(self.name)
        if assumed and self.stem == "small":  # which no weights of timm's have
            cfg = None
        self._cfg, self.assumed = cfg, None if cfg is None else assumed
        if start.record is not None:
            self._read_as(start.record)
        elif cfg is not None:
            self._read_as(cfg)
        if cfg is not None and assumed:
            self.origin = f"{self.origin}; pixels as for {cfg.name} are assumed"

    def _read_as(self, said: PretrainedCfg | EncoderRecord) -> None:
        """From now on pictures are read as is said of weights: where it says a crop by timm's evaluation transform."""
        if len(said.mean) == self.in_chans:
            self.mean, self.std = tuple(said.mean), tuple(said.std)
        self.interpolation = said.interpolation
        self.crop_pct, self.crop_mode = said.crop_pct, said.crop_mode

    def spec(self) -> dict[str, Any]:
        return EncoderRecord(
            name=self.name,
            image_size=self.image_size,
            in_chans=self.in_chans,
            feature_dim=self.feature_dim,
            mean=list(self.mean),
            std=list(self.std),
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            stem=self.stem,
            arguments=self.arguments,
            start=self.start,
            pretrained_cfg=self._cfg,
            assumed=self.assumed,
        ).as_spec()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> "Encoder":
        """The architecture of a description, with random weights.

        `state`: weights that it is meant for; they tell the stem where a description of an earlier version does not.

        Raises: RunError if the description is damaged, or of a network that is built otherwise here.
        """
        record = EncoderRecord.parse(spec)
        stem = record.stem
        if stem is None and state is not None:
            stem = stem_of({name.removeprefix("backbone."): x for name, x in state.items()})
        arguments = record.arguments
        if arguments is None:  # of an earlier version
            sized = "vit" in record.name or "deit" in record.name
            arguments = Arguments(img_size=record.image_size, dynamic_img_size=True) if sized else Arguments()
        encoder = cls(
            record.name,
            image_size=record.image_size,
            in_chans=record.in_chans,
            stem=stem,
            arguments=arguments,
        )
        if record.arguments is not None and encoder.feature_dim != record.feature_dim:
            raise RunError(
                f"the encoder {record.name} has {encoder.feature_dim} features here and {record.feature_dim} in its "
                "description: it is of another version of timm, or damaged."
            )
        encoder.mean, encoder.std = tuple(record.mean), tuple(record.std)
        encoder.interpolation, encoder.start = record.interpolation, record.start
        encoder._cfg, encoder.assumed = record.pretrained_cfg, record.assumed
        encoder.crop_pct, encoder.crop_mode = record.crop_pct, record.crop_mode
        return encoder


def _of_each(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """A number for each channel; for others than three the mean of theirs, until the images' own is measured."""
    return tuple(values) if len(values) == in_chans else (sum(values) / len(values),) * in_chans


def encoder_names() -> list[str]:
    """Every name that builds at the size it was made for: our own first, then timm's."""
    return [SMALL_CONV, *timm_names()]


def require_encoder_name(name: str) -> None:
    """Raises: UsageError for a name that :func:`build_encoder` does not know, with the nearest."""
    if name != SMALL_CONV:
        require_name(name)


def load_weights(encoder: Encoder, path: str | Path, *, partial: bool = False) -> str:
    """Give an encoder the weights of a local file or folder (never unpickled), and say in words what was taken.

    Any file of weights or checkpoint that holds the network's tensors, nested and prefixed as it may be; others in it,
    such as a classifier's, are left out. All of the network's are taken or none, unless `partial`.

    Raises: UsageError if the file is absent or lacks tensors of the network; RunError if it is damaged.
    """
    start = find_start(path)
    start.encoder(encoder.name)
    encoder.take(start, partial=partial)
    return encoder.origin or ""


def build_encoder(
    name: str | None,
    *,
    image_size: int | None = None,
    in_chans: int = 3,
    init: str | Path = "random",
    partial: bool = False,
    drop_path: float = 0.0,
) -> Encoder:
    """Build an encoder by name: ``small-conv`` or any timm model.

    Args:
        name: see ``isosphere list encoders``; a tag after a point chooses among timm's weights. None where the weights
            tell it. Residual networks get a 3x3 stem without max-pool below 80 pixels, unless the weights that they
            are given have the other one.
        image_size: side of the global views in pixels; None: the network's own, and at most 224. in_chans: of the
            images; timm adapts the first layer of its weights where they are not three.
        init: ``"random"`` (the global torch generator), ``"pretrained"`` (timm's weights), a local file of weights, the
            folder of a run or of a network in the Hub's layout, or ``"hf-hub:OWNER/NAME"``.
        partial: what the weights lack stays random.
        drop_path: probability with which a residual branch of the last block is left out in training, rising to it
            over the depth (stochastic depth); of networks of timm that have it.

    Raises: UsageError for an unknown name (the nearest is offered), a size that the network cannot be built for, a
        file that does not fit, or a network without stochastic depth; RunError if weights are damaged or cannot be had.
    """
    start = find_start(init)
    name = start.encoder(name)
    require_encoder_name(name)
    shape: dict[str, Any] = {"image_size": image_size or start.size(name) or 32, "in_chans": in_chans}
    extra = start.arguments
    if drop_path:
        require_drop_path(name)
        extra = (extra or Arguments()).model_copy(update={"drop_path_rate": drop_path})
    if start.path is None:
        return Encoder(name, pretrained=start.label == "pretrained", extra=extra, **shape)
    encoder = Encoder(name, extra=extra, **shape)
    if encoder.stem is not None and (stem := start.weights.stem(encoder.backbone)) not in (
        None,
        encoder.stem,
    ):
        encoder = Encoder(name, extra=extra, stem=stem, **shape)
    encoder.take(start, partial=partial)
    _require_vector(encoder)
    return encoder


def _require_vector(encoder: Encoder) -> None:
    """Raises: UsageError if an encoder with arguments of others gives something else than a vector an image."""
    if not encoder.arguments.of_the_network:
        return
    with torch.no_grad(), evaluation_mode(encoder):
        shape = tuple(encoder(torch.zeros(1, encoder.in_chans, encoder.image_size, encoder.image_size)).shape)
    if shape != (1, encoder.feature_dim):
        raise UsageError(
            f"these weights of {encoder.name} give {'x'.join(map(str, shape[1:]))} numbers an image, and one vector is "
            f"needed (global_pool {encoder.arguments.global_pool!r}): give others, or another {option('encoder')}."
        )
