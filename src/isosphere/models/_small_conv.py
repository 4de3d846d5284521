"""A small convolutional network for small images and small machines."""

from torch import Tensor, nn

SMALL_CONV = "small-conv"


def _layer(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )


class SmallConv(nn.Module):
    """Five 3x3 convolutions over three resolutions, with batch norm, average-pooled: for images of 24 to 96 pixels.

    Shape:
        ``(n, in_chans, h, w)`` to ``(n, 8 * width)``, any h and w from 8. ``width=32`` has 0.5 million parameters and
        takes 25 million multiplications for a 32-pixel image.

    Example:
        >>> SmallConv(width=8)(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 64])
    """

    def __init__(self, in_chans: int = 3, width: int = 32):
        super().__init__()
        self.num_features = 8 * width
        self.layers = nn.Sequential(
            _layer(in_chans, width, 2),
            _layer(width, 2 * width, 1),
            _layer(2 * width, 4 * width, 2),
            _layer(4 * width, 4 * width, 1),
            _layer(4 * width, 8 * width, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The layers in order, as timm's networks tell theirs."""
        return {"blocks": r"^layers\.(\d+)"}
