"""Where a view lies in its image: the laws of random boxes and random affine maps.

A view's pixel ``(u, v)`` in [-1, 1]^2 comes from the image point ``centre + linear @ (u, v)``; points are in
pixels of the image, (x, y), with the outer corner of the first pixel at (0, 0).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from isosphere.data._recipes import ViewRecipe
from isosphere.devices import constant

PLACE_DRAWS = 9  # flips (2), turn, shears (2), position (2), scale and ratio of a centred box
BOX_DRAWS = 20  # ten tries of area and ratio, as many as torchvision makes


class Placement(NamedTuple):
    """Where each view lies: ``centre`` (n, 2) and ``linear`` (n, 2, 2), in pixels of the image, (x, y)."""

    centre: Tensor
    linear: Tensor


def is_upright(recipe: ViewRecipe) -> bool:
    """Whether every view of the recipe is a box inside the image with sides along its rows and columns."""
    return recipe.placement == "inside" and recipe.rotation == 0 and recipe.shear == 0


class Frame(NamedTuple):
    """What a view must know of its image's shape, as (x, y) in pixels: (n, 2), or (1, 2) where all images are alike.

    ``largest`` is the box that is taken where none fits; ``reach`` is how far a centred box may be shifted each way.
    """

    size: Tensor
    largest: Tensor
    reach: Tensor


def frame(shapes: Sequence[tuple[int, int]], recipe: ViewRecipe, device: torch.device) -> Frame:
    """The frame of images of these heights and widths."""
    if len(alike := set(shapes)) == 1:
        numbers = constant(_frame(*alike.pop(), recipe.ratio, recipe.translation), device)[None]
    else:
        rows = [_frame(height, width, recipe.ratio, recipe.translation) for height, width in shapes]
        numbers = torch.tensor(rows, dtype=torch.float32).view(-1, 6).to(device, non_blocking=True)
    return Frame(numbers[:, 0:2], numbers[:, 2:4], numbers[:, 4:6])


@lru_cache(maxsize=4096)
def _frame(height: int, width: int, ratio: tuple[float, float], translation: float) -> tuple[float, ...]:
    nearest = min(max(width / height, ratio[0]), ratio[1])
    largest = (min(width, height * nearest), min(height, width / nearest))
    side = min(height, width)
    # A centred box slides along the long side of an image: all of it is seen, as by boxes placed anywhere.
    reach = (side * translation + (width - side) / 2, side * translation + (height - side) / 2)
    return width, height, *largest, *reach


def random_boxes(u: Tensor, frame: Frame, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Width and height in pixels of boxes that fit in the image.

    Area uniform and ratio log-uniform, given that the box fits: of ten tries the first that fits is taken,
    else the largest box whose ratio is in range. This is the law of torchvision's RandomResizedCrop without
    its rounding to whole pixels.

    Shape: u (n, BOX_DRAWS) uniform in [0, 1), result (n, 2).
    """
    area = (scale[0] + (scale[1] - scale[0]) * u[:, 0::2]) * frame.size.prod(1, keepdim=True)
    root = torch.exp(0.5 * _between(u[:, 1::2], math.log(ratio[0]), math.log(ratio[1])))
    side = area.sqrt()
    w, h = side * root, side / root
    fits = (w <= frame.size[:, :1]) & (h <= frame.size[:, 1:])
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    box = torch.cat([w.gather(1, first), h.gather(1, first)], dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), box, frame.largest)


def place(u: Tensor, boxes: Tensor | None, frame: Frame, recipe: ViewRecipe, view: int) -> Placement:
    """Turn uniform numbers into the placement of view number ``view`` of each image.

    Shape: u (n, PLACE_DRAWS) in [0, 1); boxes (n, BOX_DRAWS), needed for ``placement="inside"`` alone.
    """
    scale = recipe.view_scale(view)
    if recipe.placement == "inside":
        assert boxes is not None
        box = random_boxes(boxes, frame, scale, recipe.ratio)
        centre = box / 2 + u[:, 5:7] * (frame.size - box)
    else:
        side = frame.size.amin(1, keepdim=True)
        root = torch.exp(0.5 * _between(u[:, 8], math.log(recipe.ratio[0]), math.log(recipe.ratio[1])))
        box = side * _between(u[:, 7:8], *scale) * torch.stack([root, 1.0 / root], dim=1)
        centre = frame.size / 2 + frame.reach * (2 * u[:, 5:7] - 1)
    half_x = torch.where(u[:, 0] < recipe.horizontal_flip, -0.5, 0.5) * box[:, 0]
    half_y = torch.where(u[:, 1] < recipe.vertical_flip, -0.5, 0.5) * box[:, 1]
    if is_upright(recipe):
        return Placement(centre, torch.diag_embed(torch.stack([half_x, half_y], dim=1)))
    angle = math.radians(recipe.rotation) * (2 * u[:, 2] - 1)
    shear_x, shear_y = torch.tan(math.radians(recipe.shear) * (2 * u[:, 3:5] - 1)).unbind(1)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        (cos - sin * shear_y) * half_x,
        (cos * shear_x - sin) * half_y,
        (sin + cos * shear_y) * half_x,
        (sin * shear_x + cos) * half_y,
    ]
    return Placement(centre, torch.stack(rows, dim=1).view(-1, 2, 2))


def shrinking(recipe: ViewRecipe, view: int, height: int, width: int) -> tuple[float, float]:
    """The least and greatest distance, in image pixels, between neighbouring pixels of this view."""
    low, high = recipe.view_scale(view)
    if recipe.placement == "inside":
        low, high = math.sqrt(low * height * width), math.sqrt(high * height * width)
    else:
        low, high = low * min(height, width), high * min(height, width)
    # Shearing by both angles changes areas by 1 - tan(x) tan(y).
    slant = math.tan(math.radians(recipe.shear)) ** 2
    size = recipe.view_size(view)
    return low * math.sqrt(max(1 - slant, 0.0)) / size, high * math.sqrt(1 + slant) / size


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u
