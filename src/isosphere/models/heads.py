"""Projection heads: from the backbone's features to the embedding."""

__all__ = ["MLPHead"]

from itertools import pairwise

from torch import Tensor, nn


class MLPHead(nn.Module):
    """Multi-layer perceptron ``in -> hidden -> ... -> out`` with batch norm and GELU between the layers.

    SPHERE-JEPA (2605.26900): three layers, 2048-2048-256, GELU. The last layer has no bias: under a loss on unit rows
    a common offset is what collapse looks like, and batch norm before it keeps its inputs spread.

    Shape: ``(n, in_dim)`` -> ``(n, out_dim)``. Needs at least two rows in training mode (batch norm).
    """

    def __init__(self, in_dim: int, out_dim: int = 256, hidden_dim: int = 2048, layers: int = 3):
        super().__init__()
        if layers < 1:
            raise ValueError(f"got layers={layers}, expected at least 1 (the papers: 3)")
        self.in_dim, self.out_dim, self.hidden_dim = in_dim, out_dim, hidden_dim
        widths = [in_dim, *[hidden_dim] * (layers - 1)]
        stack: list[nn.Module] = []
        for i, o in pairwise(widths):
            stack += [nn.Linear(i, o, bias=False), nn.BatchNorm1d(o), nn.GELU()]
        self.layers = nn.Sequential(*stack, nn.Linear(widths[-1], out_dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
