"""A sheet of images beside their views: the quickest way to see what an encoder is asked to ignore."""

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from isosphere.data import Views

__all__ = ["contact_sheet"]

GAP, MARGIN = 4, 16


def contact_sheet(
    images: Tensor, views: Views, *, seed: int = 0, epochs: int = 3, cell: int = 96
) -> Image.Image:
    """One row an image: the image itself, then its views in as many epochs.

    Shape: `images` uint8 (n, 3, h, w). Enlarged without smoothing, so that pixels are seen as the network
    sees them.
    """
    recipe = views.recipe
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (recipe.mean, recipe.std))
    index = torch.arange(len(images), device=images.device)
    columns = [images.cpu().float() / 255]
    for epoch in range(epochs):
        drawn = views(images, index=index, epoch=epoch, seed=seed)
        columns += [(view.cpu() * std + mean).clamp(0, 1) for view in drawn]
    cells = [functional.interpolate(column, size=(cell, cell), mode="nearest-exact") for column in columns]
    grid = torch.ones(3, len(images) * (cell + GAP) + GAP, len(cells) * (cell + GAP) + MARGIN)
    for c, column in enumerate(cells):
        for r, picture in enumerate(column):
            top, left = GAP + r * (cell + GAP), c * (cell + GAP) + (MARGIN if c else GAP)
            grid[:, top : top + cell, left : left + cell] = picture
    pixels = (grid * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels)
