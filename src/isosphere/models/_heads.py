"""Projection heads: from the backbone's features to the embedding."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn


def check_widths(**widths: int) -> None:
    """Raise ValueError for the first of these widths that is not positive."""
    for name, width in widths.items():
        if width < 1:
            raise ValueError(f"got {name}={width}, expected at least 1")


class MLPHead(nn.Module):
    """Multi-layer perceptron ``in -> hidden -> ... -> out`` with batch norm and GELU between the layers.

    SPHERE-JEPA (2605.26900): three layers, 2048-2048-256, GELU. The last layer has no bias: under a loss on unit rows
    a common offset is what collapse looks like, and batch norm before it keeps its inputs spread.

    Shape:
        ``(n, in_dim)`` to ``(n, out_dim)``. Needs at least two rows in training mode (batch norm).
    Raises:
        ValueError: a width or a number of layers below 1.

    Example:
        >>> MLPHead(8, out_dim=4, hidden_dim=16)(torch.randn(3, 8)).shape
        torch.Size([3, 4])
    """

    def __init__(self, in_dim: int, out_dim: int = 256, hidden_dim: int = 2048, layers: int = 3):
        super().__init__()
        check_widths(in_dim=in_dim, out_dim=out_dim, hidden_dim=hidden_dim)
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


class ProjectionHead(nn.Module):
    """Linear, batch norm and ReLU, ``layers - 1`` times, then a linear layer: projector or predictor of the rivals.

    ``last`` says what follows the last linear layer: ``"linear"`` nothing, ``"normalised"`` a batch norm,
    ``"standardised"`` one without scale and shift. No linear layer has a bias where batch norm would take it away;
    the last one has none either unless ``bias``. ``layers=1`` is a linear map.

    As published: SimCLR 2 layers, 2048-128, normalised (2002.05709); BYOL projector and predictor 2 layers, 4096-256
    (2006.07733); SimSiam projector 3 layers, 2048-2048-2048, standardised, predictor 2 layers, 512-2048, bias
    (2011.10566); VICReg (2105.04906) and Barlow Twins (2103.03230) 3 layers, 8192-8192-8192.

    Shape:
        ``(n, in_dim)`` to ``(n, out_dim)``. Needs at least two rows in training mode (batch norm).
    Raises:
        ValueError: a width or a number of layers below 1, another ``last``.

    Example:
        >>> z = ProjectionHead(8, out_dim=4, hidden_dim=16, last="standardised")(torch.randn(64, 8))
        >>> bool(z.mean(0).abs().max() < 1e-6)
        True
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int = 256,
        hidden_dim: int = 2048,
        layers: int = 2,
        *,
        last: Literal["linear", "normalised", "standardised"] = "linear",
        bias: bool = False,
    ):
        super().__init__()
        check_widths(in_dim=in_dim, out_dim=out_dim, hidden_dim=hidden_dim)
        if layers < 1:
            raise ValueError(f"got layers={layers}, expected at least 1 (the papers: 2 or 3)")
        if last not in ("linear", "normalised", "standardised"):
            raise ValueError(f"got last={last!r}, expected 'linear', 'normalised' or 'standardised'")
        self.in_dim, self.out_dim, self.hidden_dim = in_dim, out_dim, hidden_dim
        widths = [in_dim, *[hidden_dim] * (layers - 1)]
        stack: list[nn.Module] = []
        for i, o in pairwise(widths):
            stack += [nn.Linear(i, o, bias=False), nn.BatchNorm1d(o), nn.ReLU()]
        stack.append(nn.Linear(widths[-1], out_dim, bias=bias and last == "linear"))
        if last != "linear":
            stack.append(nn.BatchNorm1d(out_dim, affine=last == "normalised"))
        self.layers = nn.Sequential(*stack)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
