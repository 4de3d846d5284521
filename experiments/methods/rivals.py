"""Other people's losses around our encoder, head and views."""

import torch
from torch import Tensor

from isosphere.methods import Loss, Method

__all__ = ["LightlySimCLR"]


class LightlySimCLR(Method):
    """SimCLR with lightly's ``NTXentLoss``; encoder and head are those of our ``simclr``."""

    def __init__(self, simclr: Method):
        from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]

        super().__init__(simclr.encoder, simclr.head)
        self._criterion = NTXentLoss(temperature=simclr.temperature)  # type: ignore[arg-type]

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        return (self._raw(views[:2]),)

    def loss(self, *outputs: Tensor) -> Loss:
        first, second = outputs[0].float()
        total = self._criterion(first, second)
        return Loss(total, {"contrast": total.detach()})

    def _place(self, z: Tensor) -> Tensor:
        return torch.nn.functional.normalize(z.float(), dim=-1)
