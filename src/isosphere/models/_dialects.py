"""Names that other libraries give the tensors of timm's networks, where each can be told by its name alone.

Never by order and shape: two layers of one shape would be swapped and nobody would know.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

T = TypeVar("T")

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_EXCITATION = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def efficientnet_pytorch(tensors: Mapping[str, T], network: nn.Module) -> dict[str, T] | None:
    """Tensors of L. Melas-Kyriazi's EfficientNet-PyTorch, and of efficientnet-lite-pytorch after it, by the names of
    timm's ``tf_efficientnet_*``, which compute the same; None for others, or another network.

    There the blocks are counted through, here within their stage.
    """
    blocks = [
        f"blocks.{i}.{j}"
        for i, stage in enumerate(getattr(network, "blocks", ()))
        for j, _ in enumerate(stage if isinstance(stage, nn.Sequential) else ())
    ]
    if not blocks or not {"_conv_stem.weight", "_blocks.0._depthwise_conv.weight"} <= tensors.keys():
        return None
    expanded = {
        int(found[1]) for key in tensors if (found := re.match(r"_blocks\.(\d+)\._expand_conv\.", key))
    }
    named: dict[str, T] = {}
    for key, x in tensors.items():
        layer, _, kind = key.rpartition(".")
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer):
            number = int(found[1])
            within = {**(_INVERTED if number in expanded else _SEPARABLE), **_EXCITATION}
            if number >= len(blocks) or found[2] not in within:
                return None
            named[f"{blocks[number]}.{within[found[2]]}.{kind}"] = x
        elif layer in _OUTSIDE:
            named[f"{_OUTSIDE[layer]}.{kind}"] = x
    return named
