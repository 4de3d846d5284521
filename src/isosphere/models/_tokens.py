"""Class tokens of a vision transformer's last blocks, for probes that look deeper than its output."""

import re
from typing import Any

import torch
from torch import Tensor

from isosphere.errors import UsageError, option
from isosphere.models._encoder import Encoder


def layer_blocks(encoder: Encoder, layer: str) -> int:
    """How many blocks a layer such as ``last4`` names.

    Raises: UsageError for another name, an encoder without class tokens, or more blocks than it has.
    """
    match = re.fullmatch(r"last([1-9]\d{0,3})", layer)
    if match is None:
        raise UsageError(
            f"{option('layer')}: got '{layer}', expected last1, last2, ...: class tokens of so many blocks."
        )
    backbone = encoder.backbone
    depth = len(getattr(backbone, "blocks", ()))
    tokens = getattr(backbone, "cls_token", None) is not None and hasattr(backbone, "forward_intermediates")
    if not tokens or depth == 0:
        raise UsageError(
            f"{option('layer', layer)}: {encoder.name} has no class token; it is for vision transformers such as "
            f"vit_small_patch16_224. Leave {option('layer')} out."
        )
    count = int(match[1])
    if count > depth:
        raise UsageError(
            f"{option('layer', layer)}: {encoder.name} has {depth} blocks, expected last{depth} at most."
        )
    return count


def class_tokens(encoder: Encoder, x: Tensor, blocks: int) -> Tensor:
    """Class tokens after each of the last `blocks` blocks, normalised by the network's last norm, side by side.

    Shape: ``(n, channels, h, w)`` to ``(n, blocks * width)``, the last block's last. With one block and a
    network that pools by its class token these are its features.

    Raises: UsageError as :func:`layer_blocks`.

    Reference: M. Caron et al., Emerging properties in self-supervised vision transformers (2021), appendix
    F.2: the linear evaluation of small ViTs concatenates the last four.
    """
    layer_blocks(encoder, f"last{blocks}")
    backbone: Any = encoder.backbone
    found = backbone.forward_intermediates(
        x, indices=blocks, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
    )
    return torch.cat([prefix[:, 0] for _, prefix in found], dim=1)
