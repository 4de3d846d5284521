"""AdamW, LARS or SGD, with decay and adaptation on the weights that multiply and on nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from timm.optim.lars import Lars
from torch import nn

from isosphere.training._config import OptimConfig

MOMENTUM = 0.9
"""Of LARS and SGD where none is given, as in all of the papers."""

_MARKS = {"betas", "momentum", "trust_coeff"}
"""Settings by which the states of the three are told apart, whatever the version of torch."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Two parameter groups: weights that multiply, with decay; norms, biases, scales and tokens, without.

    Not decayed are the parameters of normalisation layers, whatever their shape, those of one dimension or
    none, and class tokens and position embeddings (a leading dimension of 1).
    """
    of_norms = {id(p) for part in module.modules() if isinstance(part, _NORMS) for p in part.parameters()}
    decayed, free = [], []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        token = parameter.ndim >= 2 and parameter.shape[0] == 1 and name.endswith(("token", "embed"))
        (free if parameter.ndim <= 1 or token or id(parameter) in of_norms else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimConfig, *, scaled: bool = False) -> torch.optim.Optimizer:
    r"""The optimiser of a method's trainable parameters.

    ``adamw``: decoupled decay. ``sgd``: with momentum, decay added to the gradient. ``lars``: the same with each
    weight tensor's step scaled by :math:`0.001\, |w| / (|g| + \lambda |w|)`, You et al., 1708.03888; tensors without
    decay (see :func:`decay_groups`) are stepped as by SGD, as in BYOL, SimCLR and Barlow Twins.

    Args:
        scaled: whether gradients arrive scaled (float16): the optimiser then leaves it to the scaler to undo that,
            so that they can be clipped in between.
    """
    groups = decay_groups(module, config.weight_decay)
    momentum = MOMENTUM if config.momentum is None else config.momentum
    # One kernel for all parameters, where there is one: the loop over tensors costs a small network 5 % of
    # its step.
    fused = not scaled and all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=momentum, fused=fused)
    if config.name == "lars":
        for group in groups:  # by the kind of parameter, not by whether the decay happens to be 0
            group["always_adapt"] = group is groups[0] and _multiplying(group)
        options: dict[str, Any] = {
            "lr": config.learning_rate,
            "momentum": momentum,
        }  # timm annotates them as int
        return Lars(groups, **options)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)


def _multiplying(group: Mapping[str, Any]) -> bool:
    return any(p.ndim > 1 for p in group["params"])


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


def set_learning_rate(groups: Iterable[dict], value: float) -> None:
    """Give every group the same learning rate."""
    for group in groups:
        group["lr"] = value
