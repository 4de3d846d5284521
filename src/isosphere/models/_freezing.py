"""The parts of a backbone from its input on: its stages and layers by timm's grouping, and what in them stays fixed."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from isosphere.errors import UsageError, option, plural


def depths(backbone: nn.Module, name: str, *, stages: bool = False) -> dict[str, int]:
    """The layer (or the stage, with the stem as 0) of every parameter, by timm's ``group_matcher``, from the input on.

    Raises: UsageError for a network that timm does not group.
    """
    network: Any = backbone
    if not hasattr(network, "group_matcher"):
        raise UsageError(
            f"{name} has no layers that timm knows of: leave out {option('model.freeze')} and "
            f"{option('optim.layer_decay')}, or choose another {option('encoder')}."
        )
    from timm.models import group_parameters

    found: Any = group_parameters(network, network.group_matcher(coarse=stages), reverse=True)
    return found


def freeze_stages(backbone: nn.Module, name: str, count: int) -> list[str]:
    """Take the gradient from the first stages, and return the names of the modules that hold their weights.

    Raises: UsageError if no stage would be left.
    """
    stages = depths(backbone, name, stages=True) if count else {}
    most = max(stages.values(), default=count)
    if count > most:
        raise UsageError(
            f"{option('model.freeze', count)}: {name} has {plural(most + 1, 'stage')} with the stem, and one at least "
            f"has to learn: give {option('model.freeze', most)} at most."
        )
    still = [key for key, stage in stages.items() if stage < count]
    for key in still:
        backbone.get_parameter(key).requires_grad_(False)
    return sorted({key.rpartition(".")[0] for key in still})


def freeze_batch_norm(backbone: nn.Module) -> list[str]:
    """Take the gradient from scale and shift of every batch norm, and return their names."""
    found = [key for key, part in backbone.named_modules() if isinstance(part, _BatchNorm)]
    for key in found:
        backbone.get_submodule(key).requires_grad_(False)
    return found
