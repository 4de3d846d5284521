"""Brightness, contrast, saturation, hue, grey and normalisation as one affine map of the colours of each
view.

Each of these is affine in a pixel's colour (contrast needs the view's mean, which is linear in its pixels),
so all are one 3x3 matrix and one offset per view. Two things differ from torchvision's functions applied in
turn: values are clamped to [0, 1] once, after the last, and the hue turns colours about the axis of greys
instead of in HSV, which agrees at thirds of a turn and in direction, and by the tenth of a turn is off by two
thirds of its own step on photographs (4.5 levels of 255 where HSV moves 6.7).

What follows the map (solarise, noise, erase) works in normalised units, where black and white differ by
channel.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from isosphere.data._recipes import ViewRecipe
from isosphere.data._resampling import chosen_rows
from isosphere.devices import constant

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision
COLOUR_DRAWS = 6
ERASE_DRAWS = 5
NOISE_BANK = 1 << 20


class Units(NamedTuple):
    """Normalised units: ``(value * unit - mean) / std`` per channel, with ``value * unit`` in [0, 1]."""

    unit: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def black(self) -> tuple[float, ...]:
        """Normalised 0, per channel."""
        return tuple(-m / s for m, s in zip(self.mean, self.std, strict=True))

    @property
    def white(self) -> tuple[float, ...]:
        """Normalised 1, per channel."""
        return tuple((1.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))


class Jitter(NamedTuple):
    """Factors of brightness, contrast, saturation; turn of the hue in radians; whether grey. Each (n,)."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    turn: Tensor
    grey: Tensor


def jitter(u: Tensor, recipe: ViewRecipe) -> Jitter:
    """Draw the colour jitter of a recipe; where its gate is shut the factors are 1, 1, 1, 0. Grey is
    saturation 0.

    Shape: u (n, COLOUR_DRAWS) uniform in [0, 1).
    """
    shut = u[:, 0] >= recipe.jitter_probability

    def factor(column: int, strength: float) -> Tensor:
        low, high = max(0.0, 1.0 - strength), 1.0 + strength
        return (low + (high - low) * u[:, column]).masked_fill_(shut, 1.0)

    turn = (2.0 * math.pi * recipe.hue * (2.0 * u[:, 4] - 1.0)).masked_fill_(shut, 0.0)
    grey = u[:, 5] < recipe.grey
    return Jitter(
        factor(1, recipe.brightness), factor(2, recipe.contrast), factor(3, recipe.saturation), turn, grey
    )


def _hue(turn: Tensor) -> Tensor:
    """Rotations by ``turn`` about the axis of greys: circulant. Shape: turn (n,), result (n, 3, 3)."""
    third, root = 1.0 / 3.0, math.sqrt(1.0 / 3.0)
    cos, sin = turn.cos(), turn.sin()
    same = third + 2.0 * third * cos
    left, right = third * (1.0 - cos) - root * sin, third * (1.0 - cos) + root * sin
    return torch.stack([same, left, right, right, same, left, left, right, same], dim=1).view(-1, 3, 3)


class ColourMap(NamedTuple):
    """The map ``x -> matrix x + offset`` of a view's colours, but for the view's own mean, which the offset needs:
    ``matrix`` (n, c, c), and ``pull`` (n, 1), how far contrast pulls towards that mean.
    """

    matrix: Tensor
    pull: Tensor


def colour_map(jitter: Jitter, channels: int, units: Units) -> ColourMap:
    """Brightness, contrast, saturation, hue, grey and normalisation, in this order.

    Contrast pulls towards the view's mean luma after brightness, as torchvision's. Of other than 1 or 3 channels there
    are no colours: brightness and contrast have one factor for all channels, and contrast pulls each towards its own
    mean.
    """
    brightness, contrast, saturation, turn, grey = jitter
    device = brightness.device
    matrix = (brightness * contrast)[:, None, None]
    if channels == 3:
        # Saturation, hue and grey leave greys alone: the offset of contrast (a grey) passes through them
        # unchanged, and hue after saturation is hue (s I + (1 - s) 1 luma^T) = s hue + (1 - s) 1 luma^T.
        luma = constant(LUMA, device)
        colours = torch.lerp(luma.expand(3, 3), _hue(turn), saturation[:, None, None])
        matrix = matrix * torch.where(grey[:, None, None], (luma @ colours)[:, None, :], colours)
    else:
        matrix = matrix * torch.eye(channels, device=device)
    return ColourMap(matrix * _scale(units, device)[:, None], ((1.0 - contrast) * brightness)[:, None])


def offset_of(colours: ColourMap, channel_means: Tensor, units: Units) -> Tensor:
    """The offset of a view's colours. Shape: channel_means (n, c), those of the view before the map; result (n, c)."""
    channels, device = channel_means.shape[1], channel_means.device
    luma = constant(LUMA if channels == 3 else (1.0,), device)
    pulled = (channel_means @ luma)[:, None] if channels in (1, 3) else channel_means
    return colours.pull * pulled * _scale(units, device) + constant(units.black, device)


def _scale(units: Units, device: torch.device) -> Tensor:
    return constant(tuple(units.unit / s for s in units.std), device)


def apply_affine(views: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> Tensor:
    """``matrix x + offset`` at every pixel.

    Shape: views and out (n, c, h, w), matrix (n, c, c), offset (n, c).
    """
    torch.baddbmm(offset[:, :, None], matrix, views.flatten(2), out=out.view(*views.shape[:2], -1))
    return out


def clamp(views: Tensor, units: Units) -> Tensor:
    """Clamp normalised views between black and white, in place."""
    for channel, (low, high) in enumerate(zip(units.black, units.white, strict=True)):
        views[:, channel].clamp_(low, high)
    return views


def solarise(views: Tensor, gate: Tensor, threshold: float, units: Units) -> Tensor:
    """Invert the values at or above ``threshold`` (in [0, 1]) of the views whose gate is open, in place.

    Shape: views (n, c, h, w) normalised, gate (n,) bool.
    """
    some = chosen_rows(gate)
    x = views[some]
    black, white = (constant(v, x.device)[:, None, None] for v in (units.black, units.white))
    inverted = torch.where(x >= torch.lerp(black, white, threshold), black + white - x, x)
    views[some] = torch.where(gate[some][:, None, None, None], inverted, x)
    return views


def add_noise(
    views: Tensor, amplitude: Tensor, start: Tensor, bank: Tensor, units: Units, grey: bool
) -> Tensor:
    """Add ``amplitude`` times a stretch of the bank of normal numbers, from ``start``, and clamp, in place.

    Shape: views (n, c, h, w) normalised, amplitude in [0, 1] and start (n,), bank (NOISE_BANK + c h w, or
    more).
    """
    n, c, h, w = views.shape
    each = (1 if grey else c) * h * w
    stretch = bank.as_strided((NOISE_BANK, each), (1, 1)).index_select(0, start).view(n, -1, h, w)
    for channel, std in enumerate(units.std):
        views[:, channel].addcmul_(stretch[:, 0 if grey else channel], (amplitude / std)[:, None, None])
    return clamp(views, units)


def erased_boxes(u: Tensor, probability: float, area: tuple[float, float]) -> Tensor:
    """Random boxes to blacken, with the given probability, else empty ones.

    The box's share of the view is uniform in ``area``, its ratio log-uniform in [0.3, 3.3], its place uniform.

    Shape: u (n, ERASE_DRAWS) uniform in [0, 1); result (n, 4), left, top, right and bottom as shares of the sides.
    """
    share = area[0] + (area[1] - area[0]) * u[:, 1]
    root = torch.exp(0.5 * math.log(3.3 / 0.3) * u[:, 2] + 0.5 * math.log(0.3))
    # A side that would not fit is the whole side, and the other keeps the area.
    box_w = (share.sqrt() * root).clamp_max(1.0).maximum(share)
    box_h = share / box_w
    left, top = u[:, 3] * (1.0 - box_w), u[:, 4] * (1.0 - box_h)
    boxes = torch.stack([left, top, left + box_w, top + box_h], dim=1)
    return boxes.masked_fill_((u[:, 0] >= probability)[:, None], 0.0)


def erase(views: Tensor, boxes: Tensor, units: Units) -> Tensor:
    """Blacken a box of each view, in place. Shape: views (n, c, s, s) normalised, boxes (n, 4)."""
    some = chosen_rows(boxes[:, 2] > 0)
    x, ends = views[some], boxes[some].view(-1, 2, 2, 1)
    side = x.shape[-1]
    centre = constant(tuple((k + 0.5) / side for k in range(side)), x.device)
    inside_x, inside_y = ((centre >= ends[:, 0]) & (centre < ends[:, 1])).unbind(1)
    box = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    views[some] = torch.where(box, constant(units.black, x.device)[:, None, None], x)
    return views
