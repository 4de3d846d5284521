"""Encoders: a timm backbone, or the small convolutional one, with what is needed to rebuild it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data.constants import (
    DEFAULT_CROP_MODE,
    DEFAULT_CROP_PCT,
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
)
from torch import Tensor, nn

from isosphere.errors import RunError, UsageError, option
from isosphere.models._record import Arguments, CropMode, EncoderRecord, Stem
from isosphere.models._small_conv import SMALL_CONV, SmallConv
from isosphere.models._timm import build_timm, own_size, require_name, timm_names, width_of
from isosphere.models._weights import WeightsFile, stem_of


class Encoder(nn.Module):
    """Images ``(n, in_chans, h, w)``, normalised by ``mean`` and ``std``, to features ``(n, feature_dim)``.

    ``spec()`` is a JSON-able description from which :meth:`from_spec` rebuilds the same architecture: the stem and the
    arguments that timm's constructor was given belong to it. Where ``crop_pct`` is given, pictures are read by timm's
    evaluation transform with it, ``crop_mode`` and ``interpolation``: that of the first weights. ``origin`` says in
    words which weights it was given at first, ``start`` is their digest, where a training has taken it; both None for
    random ones.
    """

    arguments: Arguments
    stem: Stem | None

    def __init__(
        self,
        name: str,
        *,
        image_size: int,
        in_chans: int = 3,
        pretrained: bool = False,
        stem: Stem | None = None,
        arguments: Arguments | None = None,
    ):
        super().__init__()
        self.name, self.image_size, self.in_chans = name, image_size, in_chans
        self.start: str | None = None
        self.origin: str | None = None
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
            )
        self.feature_dim = width_of(self.backbone)
        config = getattr(self.backbone, "pretrained_cfg", {})
        self.mean: tuple[float, ...] = tuple(config.get("mean", IMAGENET_DEFAULT_MEAN))
        self.std: tuple[float, ...] = tuple(config.get("std", IMAGENET_DEFAULT_STD))
        self.interpolation = "bicubic"
        self.crop_pct: float | None = None
        self.crop_mode: CropMode | None = None
        if pretrained:
            self._read_as_by(config)
            tag = f".{config['tag']}" if config.get("tag") else ""
            self.origin = f"timm's weights {config.get('architecture', name)}{tag}"

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    @property
    def own_size(self) -> int | None:
        """The size of the images that timm's network was made for; None for our own."""
        return own_size(self.backbone)

    def load(self, weights: WeightsFile) -> None:
        """Take the weights of a file. Raises: UsageError or RunError, as :meth:`WeightsFile.load`."""
        self.origin = weights.load(self.backbone, self.name)
        if self.stem != "small":  # which no weights of timm's have
            self._read_as_by(getattr(self.backbone, "pretrained_cfg", {}))

    def _read_as_by(self, pretrained_cfg: Mapping[str, Any]) -> None:
        """From now on pictures are read by timm's evaluation transform, as a ``pretrained_cfg`` says; none changes
        nothing.
        """
        if pretrained_cfg:
            self.interpolation = pretrained_cfg.get("interpolation") or "bicubic"
            self.crop_pct = pretrained_cfg.get("crop_pct") or DEFAULT_CROP_PCT
            self.crop_mode = pretrained_cfg.get("crop_mode") or DEFAULT_CROP_MODE

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
        encoder.crop_pct, encoder.crop_mode = record.crop_pct, record.crop_mode
        return encoder


def encoder_names() -> list[str]:
    """Every name that builds at the size it was made for: our own first, then timm's."""
    return [SMALL_CONV, *timm_names()]


def require_encoder_name(name: str) -> None:
    """Raises: UsageError for a name that :func:`build_encoder` does not know, with the nearest."""
    if name != SMALL_CONV:
        require_name(name)


def load_weights(encoder: Encoder, path: str | Path) -> str:
    """Give an encoder the weights of a local file (never unpickled), and say in words what was taken.

    Any file of weights or checkpoint that holds the network's tensors, nested and prefixed as it may be; others in it,
    such as a classifier's, are left out. All of the network's are taken or none.

    Raises: UsageError if the file is absent or lacks tensors of the network; RunError if it is damaged.
    """
    encoder.load(WeightsFile.read(path))
    return encoder.origin or ""


def build_encoder(name: str, *, image_size: int, in_chans: int = 3, init: str | Path = "random") -> Encoder:
    """Build an encoder by name: ``small-conv`` or any timm model.

    Args:
        name: see ``isosphere list encoders``. Residual networks get a 3x3 stem without max-pool below 80 pixels, unless
            the weights that they are given have the other one.
        image_size: side of the global views in pixels. in_chans: colour channels.
        init: ``"random"`` (the global torch generator), ``"pretrained"`` (timm's weights), or a local file.

    Raises: UsageError for an unknown name (the nearest is offered), a size that the network cannot be built for, or a
        file that does not fit.
    """
    if init in ("random", "pretrained"):
        return Encoder(name, image_size=image_size, in_chans=in_chans, pretrained=init == "pretrained")
    weights = WeightsFile.read(init)
    encoder = Encoder(name, image_size=image_size, in_chans=in_chans)
    if encoder.stem is not None and (stem := weights.stem(encoder.backbone)) not in (None, encoder.stem):
        encoder = Encoder(name, image_size=image_size, in_chans=in_chans, stem=stem)
    encoder.load(weights)
    return encoder
