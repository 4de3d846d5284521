"""Brightness, contrast, saturation, hue and grey as one affine map of the colours of each image.

Each of the five is affine in the pixel's colour (contrast needs the view's mean, which is linear too), so the
five are one 3x3 matrix and one offset per view; with the normalisation by mean and standard deviation it is
still one. Two things differ from applying torchvision's functions one after the other: values are clamped to
[0, 1] once, at the end, and the hue turns in the YIQ plane, which keeps the luma, instead of in HSV.
"""

import math

import torch
from torch import Tensor

from isosphere.data.recipe import ViewRecipe

__all__ = ["COLOUR_DRAWS", "LUMA", "add_noise", "apply_colour", "colour_matrix", "erase", "jitter"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision
COLOUR_DRAWS = 14

_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def _hue_bases() -> tuple[Tensor, Tensor, Tensor]:
    """K, A, B such that turning the hue by angle t is the matrix K + cos(t) A + sin(t) B."""
    to_yiq = torch.tensor(_YIQ, dtype=torch.float64)
    from_yiq = torch.linalg.inv(to_yiq)
    chroma = torch.diag(torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    quarter = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    luma = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    return tuple((from_yiq @ m @ to_yiq).float() for m in (luma, chroma, quarter))  # type: ignore[return-value]


_HUE = _hue_bases()


def jitter(u: Tensor, recipe: ViewRecipe) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Factors of brightness, contrast and saturation and the turn of the hue in radians, from uniform
    numbers.

    Shape: u (n, >= 6) in [0, 1); four results (n,). Where the gate is shut: 1, 1, 1, 0. Grey is saturation 0.
    """
    shut = u[:, 0] >= recipe.jitter_probability

    def factor(column: int, strength: float) -> Tensor:
        low, high = max(0.0, 1.0 - strength), 1.0 + strength
        return (low + (high - low) * u[:, column]).masked_fill(shut, 1.0)

    saturation = factor(3, recipe.saturation).masked_fill(u[:, 5] < recipe.grey, 0.0)
    turn = (2.0 * math.pi * recipe.hue * (2.0 * u[:, 4] - 1.0)).masked_fill(shut, 0.0)
    return factor(1, recipe.brightness), factor(2, recipe.contrast), saturation, turn


def colour_matrix(
    brightness: Tensor, contrast: Tensor, saturation: Tensor, turn: Tensor, channel_means: Tensor
) -> tuple[Tensor, Tensor]:
    """The affine map ``x -> matrix x + offset`` of brightness, then contrast, saturation and hue.

    Contrast pulls towards the mean luma of the view after brightness, as torchvision does.

    Shape: four (n,) and channel_means (n, c), c 1 or 3; results (n, c, c) and (n, c).
    """
    n, channels = channel_means.shape
    if channels == 1:
        gain = brightness * contrast
        return gain.view(n, 1, 1), ((1.0 - contrast) * brightness)[:, None] * channel_means
    luma = channel_means.new_tensor(LUMA)
    pivot = (1.0 - contrast) * brightness * (channel_means @ luma)
    identity = torch.eye(3, device=luma.device, dtype=luma.dtype)
    grey = luma.expand(3, 3)
    s = saturation[:, None, None]
    keep, chroma, quarter = (m.to(luma) for m in _HUE)
    hue = keep + turn.cos()[:, None, None] * chroma + turn.sin()[:, None, None] * quarter
    matrix = (brightness * contrast)[:, None, None] * (hue @ (s * identity + (1.0 - s) * grey))
    # Both saturation and hue leave greys alone, so the offset (a grey) passes through them unchanged.
    return matrix, pivot[:, None].expand(n, 3)


def apply_colour(views: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """``matrix x + offset`` at every pixel.

    Shape: views (n, c, h, w), matrix (n, c, c), offset (n, c).
    """
    n, c = views.shape[:2]
    return torch.baddbmm(offset[:, :, None], matrix, views.reshape(n, c, -1)).view_as(views)


def add_noise(views: Tensor, amplitude: Tensor, offset: Tensor, bank: Tensor) -> Tensor:
    """Add ``amplitude`` times a stretch of a fixed bank of normal numbers that starts at ``offset``.

    Shape: views (n, ...), amplitude and offset (n,), bank (m,).
    """
    each = views[0].numel()
    index = offset[:, None] + torch.arange(each, device=views.device)
    return views + amplitude.view(-1, *[1] * (views.ndim - 1)) * bank[index].view_as(views)


def erase(views: Tensor, u: Tensor, probability: float, area: tuple[float, float], fill: Tensor) -> Tensor:
    """Fill a random box of each view, with the given probability; area uniform, ratio log-uniform in [0.3,
    3.3].

    Shape: views (n, c, h, w), u (n, 5) in [0, 1), fill broadcastable to views.
    """
    height, width = views.shape[-2:]
    share = area[0] + (area[1] - area[0]) * u[:, 1]
    aspect = torch.exp(math.log(0.3) + (math.log(3.3) - math.log(0.3)) * u[:, 2])
    box_w, box_h = (share * aspect).sqrt().clamp_max(1.0), (share / aspect).sqrt().clamp_max(1.0)
    left, top = u[:, 3] * (1.0 - box_w), u[:, 4] * (1.0 - box_h)
    x = (torch.arange(width, device=views.device) + 0.5) / width
    y = (torch.arange(height, device=views.device) + 0.5) / height
    inside_x = (x >= left[:, None]) & (x < (left + box_w)[:, None])
    inside_y = (y >= top[:, None]) & (y < (top + box_h)[:, None]) & (u[:, 0] < probability)[:, None]
    return torch.where((inside_y[:, :, None] & inside_x[:, None, :])[:, None], fill, views)
