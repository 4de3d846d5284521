"""Inference networks: from an embedding to the parameters of a law about it."""

from itertools import pairwise

from torch import Tensor, nn

from isosphere.models._heads import check_widths


class InferenceNetwork(nn.Module):
    """Multi-layer perceptron ``in -> hidden -> ... -> outputs * in``, with batch norm and GELU between the layers.

    Maps an embedding to the parameters of a diagonal law in the same space: with ``outputs=2`` a mean and a
    logarithm of the variance, one after the other along the last dimension; with 3 also that of another scale.

    Shape:
        ``(n, in_dim)`` to ``(n, outputs * in_dim)``. With ``batch_norm`` at least two rows in training mode.
    Raises:
        ValueError: fewer than two layers or fewer than one output.

    Example:
        >>> mean, log_variance = InferenceNetwork(8, hidden_dim=16)(torch.randn(3, 8)).chunk(2, -1)
        >>> mean.shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int = 1024,
        *,
        layers: int = 2,
        outputs: int = 2,
        batch_norm: bool = True,
    ):
        super().__init__()
        check_widths(in_dim=in_dim, hidden_dim=hidden_dim)
        if layers < 2 or outputs < 1:
            raise ValueError(
                f"got layers={layers}, outputs={outputs}, expected at least 2 layers (the last one is linear) and 1 "
                "output"
            )
        self.in_dim = self.out_dim = in_dim
        self.hidden_dim, self.outputs = hidden_dim, outputs
        stack: list[nn.Module] = []
        for i, o in pairwise([in_dim, *[hidden_dim] * (layers - 1)]):
            stack += [nn.Linear(i, o, bias=not batch_norm)]
            stack += [nn.BatchNorm1d(o), nn.GELU()] if batch_norm else [nn.GELU()]
        self.layers = nn.Sequential(*stack, nn.Linear(hidden_dim, outputs * in_dim))

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h)
