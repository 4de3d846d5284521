"""Encoders: a timm backbone, or the small convolutional one, with what is needed to rebuild it."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from isosphere.errors import RunError, UsageError, listing, nearest, option
from isosphere.models._small_conv import SmallConv

SMALL_CONV = "small-conv"
# Below this size a residual network's 7x7 stem and max-pool would leave a handful of positions.
SMALL_STEM_BELOW = 80


class Encoder(nn.Module):
    """Images ``(n, in_chans, h, w)``, normalised by ``mean`` and ``std``, to features ``(n, feature_dim)``.

    ``spec()`` is a JSON-able description from which :meth:`from_spec` rebuilds the same architecture.
    """

    def __init__(self, name: str, *, image_size: int, in_chans: int = 3, pretrained: bool = False):
        super().__init__()
        self.name, self.image_size, self.in_chans = name, image_size, in_chans
        self.backbone, config = _build_backbone(name, image_size, in_chans, pretrained)
        self.feature_dim: int = self.backbone.num_features  # type: ignore[assignment]
        self.mean: tuple[float, ...] = tuple(config.get("mean", IMAGENET_DEFAULT_MEAN))
        self.std: tuple[float, ...] = tuple(config.get("std", IMAGENET_DEFAULT_STD))
        self.interpolation = "bicubic"

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def spec(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "image_size": self.image_size,
            "in_chans": self.in_chans,
            "feature_dim": self.feature_dim,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> "Encoder":
        encoder = cls(spec["name"], image_size=spec["image_size"], in_chans=spec["in_chans"])
        encoder.mean, encoder.std = tuple(spec["mean"]), tuple(spec["std"])
        encoder.interpolation = spec["interpolation"]
        return encoder


def encoder_names() -> list[str]:
    """Every name that :func:`build_encoder` knows: our own first, then timm's."""
    return [SMALL_CONV, *timm.list_models()]


def _build_backbone(
    name: str, image_size: int, in_chans: int, pretrained: bool
) -> tuple[nn.Module, dict[str, Any]]:
    if name == SMALL_CONV:
        if pretrained:
            raise UsageError(
                f"small-conv has no pretrained weights: give {option('init', 'random')}, a file, or a timm encoder."
            )
        return SmallConv(in_chans), {}
    if not timm.is_model(name):
        raise UsageError(
            f"Unknown encoder '{name}'.{nearest(name, encoder_names())} See {listing('encoders')}."
        )
    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "in_chans": in_chans}
    if "vit" in name or "deit" in name:
        options |= {"img_size": image_size, "dynamic_img_size": True}
    try:
        backbone = timm.create_model(name, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise RunError(
            f"The pretrained weights of '{name}' could not be fetched ({type(error).__name__}). "
            f"Without network, give a local file: {option('init', 'FILE')}."
        ) from error
    if image_size < SMALL_STEM_BELOW and isinstance(backbone, timm.models.ResNet) and not pretrained:
        _small_stem(backbone)
    return backbone, getattr(backbone, "pretrained_cfg", {})


def _small_stem(resnet: nn.Module) -> None:
    """The usual stem for small images: a 3x3 convolution of stride 1 and no max-pool."""
    old = resnet.conv1
    if isinstance(old, nn.Conv2d):
        resnet.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, 1, 1, bias=False)
        resnet.maxpool = nn.Identity()


def load_weights(encoder: Encoder, path: str | Path) -> str:
    """Load backbone weights from a local safetensors or torch file (never unpickled), and say how much of it fitted.

    Accepts this project's ``encoder.safetensors`` and timm's files; a classifier in the file is left out.
    Raises :class:`UsageError` if the file is absent or fewer than half of the backbone's tensors are in it.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            f"{option('init')}: no file '{path}'. Expected random, pretrained, or a .safetensors/.pth file."
        )
    try:
        state: dict[str, Any]
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(
            f"{option('init')}: '{path}' could not be read as weights: it is damaged, or no .safetensors or .pth "
            "file of tensors alone."
        ) from error
    if not isinstance(state, dict):
        raise RunError(
            f"{option('init')}: '{path}' holds a {type(state).__name__}, expected tensors by name."
        )
    while len(state) <= 4 and any(key in state for key in ("state_dict", "model", "teacher")):
        state = next(state[key] for key in ("state_dict", "model", "teacher") if key in state)
    prefixes = ("module.", "encoder.", "backbone.")
    cleaned = {}
    for key, value in state.items():
        while key.startswith(prefixes):
            key = key.split(".", 1)[1]
        cleaned[key] = value
    own = encoder.backbone.state_dict()
    fitting = {k: v for k, v in cleaned.items() if k in own and own[k].shape == v.shape}
    if len(fitting) < len(own) / 2:
        raise UsageError(
            f"{option('init')}: '{path}' holds {len(fitting)} of the {len(own)} tensors of {encoder.name}: it belongs "
            f"to another encoder. Name that one with {option('encoder')}."
        )
    encoder.backbone.load_state_dict(fitting, strict=False)
    missing = [k for k in own if k not in fitting]
    return f"{len(fitting)} of {len(own)} tensors from {path}" + (
        f"; fresh: {', '.join(missing[:4])}" if missing else ""
    )


def build_encoder(name: str, *, image_size: int, in_chans: int = 3, init: str | Path = "random") -> Encoder:
    """Build an encoder by name: ``small-conv`` or any timm model.

    Args:
        name: see ``isosphere list encoders``. Residual networks get a 3x3 stem without max-pool below 80 pixels.
        image_size: side of the global views in pixels. in_chans: colour channels.
        init: ``"random"`` (the global torch generator), ``"pretrained"`` (timm's weights), or a local file.

    Raises: UsageError for an unknown name (the nearest is offered) or a file that does not fit.
    """
    encoder = Encoder(name, image_size=image_size, in_chans=in_chans, pretrained=init == "pretrained")
    if init not in ("random", "pretrained"):
        load_weights(encoder, init)
    return encoder
