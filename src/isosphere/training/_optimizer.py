"""AdamW, LARS or SGD, with decay and adaptation on the weights that multiply and on nothing else."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from isosphere.models import Encoder
from isosphere.training._config import OptimConfig

MOMENTUM = 0.9
"""Of LARS and SGD where none is given, as in all of the papers."""

_MARKS = {"betas", "momentum", "trust_coeff"}
"""Settings by which the states of the three are told apart, whatever the version of torch."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def decay_groups(
    module: nn.Module, weight_decay: float, scales: Mapping[str, float] | None = None
) -> list[dict]:
    """Two parameter groups: weights that multiply, with decay; norms, biases, scales and tokens, without.

    Not decayed are the parameters of normalisation layers, whatever their shape, those of one dimension or
    none, and class tokens and position embeddings (a leading dimension of 1).

    Args:
        scales: of the learning rate, by parameter, as timm's ``lr_scale``: two groups for each, from the smallest on,
            and last those of all that is not named.
    """
    of_norms = {id(p) for part in module.modules() if isinstance(part, _NORMS) for p in part.parameters()}
    groups: dict[tuple[float, bool], dict] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        token = parameter.ndim >= 2 and parameter.shape[0] == 1 and name.endswith(("token", "embed"))
        free = parameter.ndim <= 1 or token or id(parameter) in of_norms
        scale = None if scales is None else scales.get(name)
        group = {"params": [], "weight_decay": 0.0 if free else weight_decay, "decays": not free}
        if scale is not None:
            group["lr_scale"] = scale
        groups.setdefault((math.inf if scale is None else scale, free), group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def backbone_scales(method: nn.Module, config: OptimConfig) -> dict[str, float] | None:
    """The learning rate of every parameter of the encoder over that of the rest; None where it is the same for all.

    With a layer decay c a layer's is c times that of the next (Bao et al., BEiT, 2106.08254; as timm's
    ``param_groups_layer_decay``).
    """
    if config.backbone_rate is None and config.layer_decay == 1.0:
        return None
    whole = (config.backbone_rate or config.learning_rate) / config.learning_rate
    encoder = cast(nn.Module, method.encoder)
    layers = encoder.layers() if isinstance(encoder, Encoder) and config.layer_decay < 1.0 else {}
    last = max(layers.values(), default=0)
    return {
        f"encoder.{name}": whole * config.layer_decay ** (last - layers.get(name, last))
        for name, _ in encoder.named_parameters()
    }


def build_optimizer(module: nn.Module, config: OptimConfig, *, scaled: bool = False) -> torch.optim.Optimizer:
    r"""The optimiser of a method's trainable parameters.

    ``adamw``: decoupled decay. ``sgd``: with momentum, decay added to the gradient. ``lars``: the same with each
    weight tensor's step scaled by :math:`0.001\, |w| / (|g| + \lambda |w|)`, You et al., 1708.03888; tensors without
    decay (see :func:`decay_groups`) are stepped as by SGD, as in BYOL, SimCLR and Barlow Twins.

    Args:
        scaled: whether gradients arrive scaled (float16): the optimiser then leaves it to the scaler to undo that,
            so that they can be clipped in between.
    """
    groups = decay_groups(module, config.weight_decay, backbone_scales(module, config))
    momentum = MOMENTUM if config.momentum is None else config.momentum
    # One kernel for all parameters, where there is one: the loop over tensors costs a small network 5 % of its step.
    # Else None, not False, for which torch would go from tensor to tensor on a GPU too.
    fused = (not scaled and all(p.device.type != "mps" for group in groups for p in group["params"])) or None
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=momentum, fused=fused)
    if config.name == "lars":
        for group in groups:  # by the kind of parameter, not by whether the decay happens to be 0
            group["always_adapt"] = group["decays"]
        options: dict[str, Any] = {
            "lr": config.learning_rate,
            "momentum": momentum,
        }  # timm annotates them as int
        from timm.optim.lars import Lars

        return Lars(groups, **options)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore an optimiser's moments, and keep its decay, momentum and other settings: they may have been changed.

    Raises: ValueError if the state is of other parameters or of another optimiser.
    """
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    if [_MARKS & set(group) for group in state["param_groups"]] != [
        _MARKS & set(group) for group in settings
    ]:
        raise ValueError(
            f"it is not the state of {type(optimizer).__name__}: give the optim.name it was made with"
        )
    # Beforehand: whether the optimiser is fused decides on which device torch puts its counters of steps.
    groups = [{**group, **kept} for group, kept in zip(state["param_groups"], settings, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})


def set_learning_rate(groups: Iterable[dict], value: float, backbone: float | None = None) -> None:
    """Give every group the same learning rate, those of a scale of their own this times `backbone` (None: the same)."""
    for group in groups:
        scale = group.get("lr_scale")
        group["lr"] = value if scale is None else scale * (value if backbone is None else backbone)
