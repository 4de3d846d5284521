"""AdamW, with decay on the weights that multiply and on nothing else."""

from collections.abc import Iterable

import torch
from torch import nn

from isosphere.training.config import OptimConfig

__all__ = ["build_optimizer", "decay_groups", "set_learning_rate"]


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


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of a method's trainable parameters."""
    groups = decay_groups(module, config.weight_decay)
    # One kernel for all parameters, where there is one: the loop over tensors costs a small network 5 % of
    # its step.
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)


def set_learning_rate(groups: Iterable[dict], value: float) -> None:
    """Give every group the same learning rate."""
    for group in groups:
        group["lr"] = value
