"""What timm has to know of weights, as it writes it beside its own."""

from typing import Any

from torch import nn

from isosphere.deploy._embedder import Embedder
from isosphere.errors import UsageError, option
from isosphere.models import Encoder, SmallConv


def require_timm(encoder: Encoder) -> None:
    """Raises: UsageError for an encoder that timm does not have."""
    if isinstance(encoder.backbone, SmallConv):
        raise UsageError(
            f"{encoder.name} is isosphere's own, and timm has no such network: give {option('format', 'safetensors')} "
            f"or {option('format', 'onnx')}, or train with a timm encoder ({option('encoder', 'resnet18')})."
        )


def timm_card(run: Embedder) -> dict[str, Any]:
    """Architecture, width, pooling, and the pixels that the weights see, as timm's evaluation transform takes them."""
    encoder = run.encoder
    return {
        "architecture": encoder.name.partition(".")[0],
        "num_features": encoder.feature_dim,
        **_pooling(encoder.backbone),
        "pretrained_cfg": {
            "input_size": [encoder.in_chans, run.size, run.size],
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "interpolation": encoder.interpolation,
            "crop_pct": encoder.crop_pct or 1.0,
            "crop_mode": encoder.crop_mode or "center",
            "num_classes": 0,
        },
    }


def _pooling(backbone: nn.Module) -> dict[str, str]:
    """How the network pools, where its constructor calls it so."""
    pool = getattr(backbone, "global_pool", None)
    found = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
    return {"global_pool": found} if isinstance(found, str) and found else {}
