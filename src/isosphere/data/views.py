"""Random views of a batch of images, on the device where the batch is.

Every random number is a function of (seed, epoch, image, view number): a view does not depend on the batch
around its image, the worker, or the rank.
"""

from functools import lru_cache

import torch
from torch import Tensor

from isosphere.data import colour, geometry
from isosphere.data.random import normal, uniform
from isosphere.data.recipe import RECIPES, ViewRecipe, recipe

__all__ = ["RECIPES", "ViewRecipe", "Views", "centre_view", "recipe"]

_BANK = 1 << 20  # normal numbers shared by all views; a view starts reading at a random one of them
_BANK_ROW = 1 << 8


@lru_cache(maxsize=4)
def _noise_bank(device: torch.device, extra: int) -> Tensor:
    # Made on the CPU once, so that every device holds the same bits.
    rows = (_BANK + extra + _BANK_ROW - 1) // _BANK_ROW
    return normal(0, 0, torch.arange(rows), 0, _BANK_ROW).flatten().to(device)


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images have shape {tuple(images.shape)}; "
            "expected (batch, channels, height, width) with 1 or 3 channels."
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(
            f"images have dtype {images.dtype}; expected uint8 in 0..255, or floating point in [0, 1]."
        )


def _channels(values: tuple[float, ...], channels: int, like: Tensor) -> Tensor:
    if channels == 1 and len(values) == 3:
        values = (sum(values) / 3,)
    return like.new_tensor(values).expand(channels)


class Views:
    """Draws the views of a recipe: one geometric resampling and one colour map each.

    ``Views(recipe)(images, index=..., epoch=..., seed=...)`` gives a list of ``recipe.views`` tensors, the
    globals first.

    Shape: images (n, c, h, w), index (n,) int64; results (n, c, s, s) float32, s the size of that view.
    Scale: images uint8 in 0..255 or floating point in [0, 1]; results normalised, (x - mean) / std per
    channel.
    Raises: ValueError or TypeError for images or an index of the wrong shape or dtype.
    Numerics: each image's views depend on (seed, epoch, index) alone, up to float32 rounding.
    """

    def __init__(self, recipe: ViewRecipe) -> None:
        self.recipe = recipe

    def __repr__(self) -> str:
        return f"Views({self.recipe!r})"

    @torch.no_grad()
    def __call__(self, images: Tensor, *, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        _check(images)
        if index.shape != images.shape[:1]:
            raise ValueError(
                f"index has shape {tuple(index.shape)}; expected ({images.shape[0]},): one number per image."
            )
        index = index.to(images.device)
        pixels = images.float().mul_(1 / 255) if images.dtype == torch.uint8 else images.float()
        return [self._view(pixels, index, epoch, seed, view) for view in range(self.recipe.views)]

    def _view(self, pixels: Tensor, index: Tensor, epoch: int, seed: int, view: int) -> Tensor:
        recipe, size = self.recipe, self.recipe.view_size(view)
        u = uniform(seed, epoch, index, view, geometry.GEOMETRY_DRAWS + colour.COLOUR_DRAWS)
        g, k = u[:, : geometry.GEOMETRY_DRAWS], u[:, geometry.GEOMETRY_DRAWS :]
        placement = geometry.place(g, pixels.shape[2], pixels.shape[3], recipe, view)
        blur, sigma = recipe.probability("blur", view), None
        if blur > 0:
            low, high = recipe.blur_sigma
            sigma = (size * (low + (high - low) * k[:, 7])).masked_fill(k[:, 6] >= blur, 0.0)
        upright = geometry.is_upright(recipe)
        x = geometry.fetch(pixels, placement, size, upright=upright, padding=recipe.padding, sigma=sigma)
        matrix, offset = colour.colour_matrix(*colour.jitter(k, recipe), x.mean(dim=(2, 3)))
        x = colour.apply_colour(x, matrix, offset).clamp_(0.0, 1.0)
        solarise = recipe.probability("solarise", view)
        if solarise > 0:
            chosen = (k[:, 8] < solarise)[:, None, None, None]
            x = torch.where(chosen & (x >= recipe.solarise_threshold), 1.0 - x, x)
        if recipe.noise > 0:
            start = (k[:, 10] * _BANK).long()
            x = colour.add_noise(
                x, recipe.noise * k[:, 9], start, _noise_bank(x.device, x[0].numel())
            ).clamp_(0, 1)
        if recipe.erase > 0:
            e = uniform(seed, epoch, index, view, geometry.GEOMETRY_DRAWS + colour.COLOUR_DRAWS + 5)[:, -5:]
            x = colour.erase(x, e, recipe.erase, recipe.erase_area, x.new_zeros(()))
        mean = _channels(recipe.mean, x.shape[1], x)[:, None, None]
        std = _channels(recipe.std, x.shape[1], x)[:, None, None]
        return x.sub_(mean).div_(std)


def centre_view(images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The one deterministic view for evaluation: the largest centred square, resized with antialiasing,
    normalised.

    Shape: images (n, c, h, w) uint8 or floating point in [0, 1]; result (n, c, size, size) float32.
    Raises: ValueError or TypeError for images of the wrong shape or dtype.
    """
    _check(images)
    with torch.no_grad():
        pixels = images.float().mul_(1 / 255) if images.dtype == torch.uint8 else images.float()
        n, c, height, width = pixels.shape
        half = min(height, width) / 2
        centre = pixels.new_tensor([width / 2, height / 2]).expand(n, 2)
        linear = torch.diag(pixels.new_tensor([half, half])).expand(n, 2, 2)
        x = geometry.fetch(pixels, geometry.Placement(centre, linear), size, upright=True, padding="border")
        return (x - _channels(mean, c, x)[:, None, None]) / _channels(std, c, x)[:, None, None]
