"""Where a view lies in its image, and the one resampling that fetches it.

A view's pixel ``(u, v)`` in [-1, 1]^2 comes from the image point ``centre + linear @ (u, v)``; points are in
pixels of the image, (x, y), with the corner of the first pixel at (0, 0).

Upright boxes are fetched by two small matrix products, ``rows @ image @ columns^T``: the triangle filter of
an antialiased resize is separable, and flips (and a blur) are part of the same matrices. Turned boxes are
smoothed by the filter that the shrinking asks for, also as two products, and then sampled bilinearly.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from isosphere.data.recipe import ViewRecipe

__all__ = ["ATTEMPTS", "GEOMETRY_DRAWS", "Placement", "blur_matrix", "fetch", "place", "resize_matrix"]

ATTEMPTS = 10  # of a random resized crop, as torchvision's, before the whole image's centre is taken
GEOMETRY_DRAWS = 7 + 2 * ATTEMPTS


class Placement(NamedTuple):
    """Where each view lies: ``centre`` (n, 2) and ``linear`` (n, 2, 2), in pixels of the image, (x, y)."""

    centre: Tensor
    linear: Tensor


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def random_boxes(
    u: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Width and height in pixels of boxes that fit in the image: area uniform, ratio log-uniform, given that
    they fit.

    Of ten tries the first that fits is taken, else the largest box whose ratio is in range; this is the law
    of torchvision's RandomResizedCrop without its rounding to whole pixels.

    Shape: u (n, 20) uniform in [0, 1), result (n, 2).
    """
    area = _between(u[:, 0::2], *scale) * (height * width)
    aspect = torch.exp(_between(u[:, 1::2], math.log(ratio[0]), math.log(ratio[1])))
    w, h = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (w <= width) & (h <= height)
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    box = torch.cat([w.gather(1, first), h.gather(1, first)], dim=1)
    nearest_ratio = min(max(width / height, ratio[0]), ratio[1])
    fallback = (min(width, height * nearest_ratio), min(height, width / nearest_ratio))
    return torch.where(fits.any(dim=1, keepdim=True), box, box.new_tensor(fallback))


def place(
    u: Tensor, height: int, width: int, recipe: ViewRecipe, view: int, *, gates: Tensor | None = None
) -> Placement:
    """Turn uniform numbers into the placement of view number ``view`` of each image.

    Shape: u (n, GEOMETRY_DRAWS) in [0, 1).
    """
    scale = recipe.view_scale(view)
    if recipe.placement == "inside":
        box = random_boxes(u[:, 7:], height, width, scale, recipe.ratio)
        room = torch.stack([width - box[:, 0], height - box[:, 1]], dim=1)
        centre = box / 2 + u[:, 5:7] * room
    else:
        side = _between(u[:, 7:8], *scale)
        stretch = torch.exp(0.5 * _between(u[:, 8:9], math.log(recipe.ratio[0]), math.log(recipe.ratio[1])))
        size = u.new_tensor([[width, height]])
        box = torch.cat([side * stretch, side / stretch], dim=1) * size
        centre = size * (0.5 + recipe.translation * (2 * u[:, 5:7] - 1))
    flip_x = torch.where(u[:, 0] < recipe.horizontal_flip, -0.5, 0.5)
    flip_y = torch.where(u[:, 1] < recipe.vertical_flip, -0.5, 0.5)
    linear = torch.diag_embed(box * torch.stack([flip_x, flip_y], dim=1))
    if is_upright(recipe):
        return Placement(centre, linear)
    angle = math.radians(recipe.rotation) * (2 * u[:, 2] - 1)
    shear = torch.tan(math.radians(recipe.shear) * (2 * u[:, 3:5] - 1))
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    one = torch.ones_like(angle)
    slant = torch.stack([one, shear[:, 0], shear[:, 1], one], dim=1).view(-1, 2, 2)
    return Placement(centre, turn @ slant @ linear)


def is_upright(recipe: ViewRecipe) -> bool:
    """Whether every view of the recipe is a box inside the image with sides along its rows and columns."""
    return recipe.placement == "inside" and recipe.rotation == 0 and recipe.shear == 0


def resize_matrix(centre: Tensor, half: Tensor, source: int, size: int) -> Tensor:
    """Weights of an antialiased linear resize along one axis, of the interval ``centre ± half`` to ``size``
    pixels.

    Row i is a triangle of half-width ``max(|step|, 1)`` source pixels around the point that output pixel i
    comes from, normalised over the pixels that exist; a negative ``half`` mirrors. This is PIL's and
    torchvision's antialiased bilinear filter, except that pixels just outside the box take part where the
    image has them.

    Shape: centre, half (n,) in pixels, result (n, size, source); rows sum to 1.
    """
    device, dtype = centre.device, centre.dtype
    output = (torch.arange(size, device=device, dtype=dtype) + 0.5) * (2.0 / size) - 1.0
    inverse_support = (half.abs() * (2.0 / size)).clamp_min_(1.0).reciprocal_()
    pixel = torch.arange(source, device=device, dtype=dtype) + 0.5
    scaled = (centre[:, None] + half[:, None] * output) * inverse_support[:, None]
    weights = scaled[:, :, None] - pixel * inverse_support[:, None, None]
    weights.abs_().neg_().add_(1.0).clamp_min_(0.0)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Weights of a Gaussian blur along one axis with mirrored borders; ``sigma`` = 0 gives the identity
    exactly.

    Shape: sigma (n,) in pixels, result (n, size, size); rows sum to 1.
    """
    position = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    offset = (position[:, None] - position[None, :]).square()
    # Mirrored about the border pixel's centre (as torchvision's "reflect"): the images of j are -j and
    # 2(s-1)-j.
    left = (position[:, None] + position[None, :]).square()
    right = (2.0 * (size - 1) - position[:, None] - position[None, :]).square()
    rate = (0.5 / sigma.square().clamp_min(1e-4))[:, None, None]
    weights = torch.exp(-rate * offset)
    mirrored = torch.exp(-rate * left) + torch.exp(-rate * right)
    mirrored[:, :, 0] -= torch.exp(-rate[:, :, 0] * left[:, 0])  # border pixels are their own mirror image
    mirrored[:, :, -1] -= torch.exp(-rate[:, :, 0] * right[:, -1])
    weights = weights + mirrored
    return weights / weights.sum(dim=2, keepdim=True)


def separable(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """``rows @ image @ columns^T`` for each channel of each image.

    Shape: rows (n, t, h), images (n, c, h, w), columns (n, s, w), result (n, c, t, s).
    """
    n, c, h, w = images.shape
    t, s = rows.shape[1], columns.shape[1]
    narrow = torch.bmm(images.reshape(n, c * h, w), columns.transpose(1, 2)).view(n, c, h, s)
    return torch.matmul(rows[:, None], narrow).view(n, c, t, s)


def fetch(
    images: Tensor,
    placement: Placement,
    size: int,
    *,
    upright: bool,
    padding: str,
    sigma: Tensor | None = None,
) -> Tensor:
    """Resample each image to its view, antialiased where the view shrinks it, and blur by ``sigma`` view
    pixels.

    Shape: images (n, c, h, w) floating, sigma (n,) or None, result (n, c, size, size).
    """
    n, _, height, width = images.shape
    if upright:
        columns = resize_matrix(placement.centre[:, 0], placement.linear[:, 0, 0], width, size)
        rows = resize_matrix(placement.centre[:, 1], placement.linear[:, 1, 1], height, size)
        if sigma is not None:
            blur = blur_matrix(sigma, size)
            rows, columns = blur @ rows, blur @ columns
        return separable(rows, images, columns)
    images = _smooth(images, placement, size)
    extent = images.new_tensor([2.0 / width, 2.0 / height])
    theta = torch.empty(n, 2, 3, device=images.device, dtype=images.dtype)
    theta[:, :, :2] = placement.linear * extent[:, None]
    theta[:, :, 2] = placement.centre * extent - 1.0
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if sigma is None:
        return views
    blur = blur_matrix(sigma, size)
    return separable(blur, views, blur)


def _smooth(images: Tensor, placement: Placement, size: int) -> Tensor:
    """Low-pass each image before it is sampled ``f`` pixels apart, f > 1.

    A triangle of half-width f has the variance f^2/6; bilinear sampling brings 1/6, a Gaussian the rest.
    """
    step = placement.linear.det().abs().sqrt() * (2.0 / size)
    sigma = ((step.square() - 1.0).clamp_min(0.0) / 6.0).sqrt()
    rows = blur_matrix(sigma, images.shape[2])
    columns = rows if images.shape[2] == images.shape[3] else blur_matrix(sigma, images.shape[3])
    return separable(rows, images, columns)
