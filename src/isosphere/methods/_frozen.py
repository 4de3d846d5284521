"""A network as it was given: nothing of it is learned, and it has no head."""

__all__ = ["FROZEN", "Frozen"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.methods._base import Loss, Method

FROZEN = "frozen"
"""What stands for a method in the configuration of a network that is not trained."""


class Frozen(Method):
    """A network that is used as it is. It has no head and no loss: :meth:`embed` gives its features for both.

    Example:
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16))
        >>> features, same = Frozen(encoder).embed(torch.randn(5, 3, 8, 8))
        >>> features.shape
        torch.Size([5, 16])
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder, nn.Identity(), global_views=1)

    @torch.no_grad()
    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x).float()
        return features, features

    def loss(self, *outputs: Any, **_: Any) -> Loss:
        raise TypeError("a frozen network has no loss: build a method to train one")
