"""Which recipe of views suits these images, and which augmentation may harm them: from the images alone.

A flip or a turn is safe when the images' law does not change under it. The test: pool each image's luma to 8
x 8, take the difference D between it and its mirrored (or turned) self, and ask whether the mean of D is
larger than random signs of the D make it. Photographs pass for left and right and fail for up and down (skies
are brighter); digits fail for all; galaxies and textures pass all. That none is found shows nothing where images are
few or of many kinds: rotations are recommended only where an interval excludes a right way up.
"""

import math
from collections.abc import Container
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from isosphere.data._colour import LUMA
from isosphere.data._random import uniform
from isosphere.devices import constant
from isosphere.errors import plural

_FEW, _MANY = 64, 2000  # below: too few to judge; above: a sample of so many is enough
_ENOUGH = 200  # to exclude a right way up: of fewer the standard error is itself uncertain
_ERRORS = 3
"""Standard errors above the share found, within which the law's may lie. Of 300 images each, galaxies and textures pass
always (clouds two times in three), photographs of mixed classes never, those of chain saws alone .07 of the time."""
_DRAWS = 999
_BROKEN = 0.01  # of the difference is systematic: photographs have .03 to .06 up-down and .001 left-right
_GREY_CHROMA = 8  # levels of 255


class Suggestion(NamedTuple):
    """A recipe's name, the reason for it in words, and what to beware of."""

    name: str
    reason: str
    cautions: tuple[str, ...]

    @property
    def changes(self) -> tuple[str, ...]:
        """Those of the cautions that say what to set."""
        return tuple(each for each in self.cautions if "=" in each)


def grey_share(images: Tensor) -> float:
    """The share of images without colour: channels within 8 levels of each other at 99 of 100 pixels.

    Shape: images (n, c, h, w) uint8.
    """
    if images.shape[1] != 3:
        return float(images.shape[1] == 1)
    chroma = images.amax(1) - images.amin(1)
    coloured = (chroma > _GREY_CHROMA).flatten(1).float().mean(1)
    return float((coloured <= 0.01).float().mean())


def symmetry_breaking(images: Tensor, symmetry: str) -> tuple[float, float]:
    """How far the law of the images is from invariant under ``"mirror"``, ``"upside-down"`` or ``"turn"`` (by
    90°).

    Gives the unbiased share of the differences' energy that is systematic, ``|E D|^2 / E |D|^2``, and the
    p-value of its sample counterpart among 999 draws of random signs.

    Shape: images (n, c, h, w) uint8, n >= 2.
    Raises: KeyError for another symmetry.
    """
    difference = _differences(images, symmetry)
    n = len(difference)
    energy = difference.square().sum(1).mean().clamp_min(1e-12)
    statistic = n * difference.mean(0).square().sum()
    share = float((statistic - energy) / ((n - 1) * energy))
    signs = torch.where(uniform(0, 0, torch.arange(_DRAWS), 0, n) < 0.5, -1.0, 1.0).to(difference)
    null = (signs @ difference).square().sum(1) / n
    return share, float((1 + (null >= statistic).sum()) / (1 + _DRAWS))


def standard_error(images: Tensor, symmetry: str) -> float:
    """Of the share that `symmetry_breaking` gives, by the jackknife.

    Shape: images (n, c, h, w) uint8, n >= 3.
    """
    difference = _differences(images, symmetry)
    n, energies = len(difference), difference.square().sum(1)
    energy = ((energies.sum() - energies) / (n - 1)).clamp_min(1e-12)
    statistic = (difference.sum(0) - difference).square().sum(1) / (n - 1)
    shares = (statistic - energy) / ((n - 2) * energy)
    return float(((n - 1) / n * (shares - shares.mean()).square().sum()).sqrt())


def _differences(images: Tensor, symmetry: str) -> Tensor:
    turned = {
        "mirror": lambda x: x.flip(2),
        "upside-down": lambda x: x.flip(1),
        "turn": lambda x: x.rot90(1, (1, 2)),
    }[symmetry]
    channels = images.shape[1]
    weights = constant(LUMA if channels == 3 else (1 / channels,) * channels, images.device)
    luma = torch.einsum("nchw,c->nhw", images.float(), weights)
    pooled = F.adaptive_avg_pool2d(luma, 8)
    return (pooled - turned(pooled)).flatten(1)


def _broken(images: Tensor, symmetry: str) -> bool:
    share, p = symmetry_breaking(images, symmetry)
    return share > _BROKEN and p <= 0.005


def _kept(images: Tensor, symmetry: str) -> bool:
    """Whether the images show that the symmetry holds, and not only fail to show that it does not."""
    share, _ = symmetry_breaking(images, symmetry)
    return len(images) >= _ENOUGH and share + _ERRORS * standard_error(images, symmetry) < _BROKEN


def suggest(images: Tensor, given: Container[str] = ()) -> Suggestion:
    """Suggest a recipe by name for these images, with the reason, and with what may be unsafe for them.

    What to set is not said of fields of the recipe that are `given`.

    Shape: images (n, c, h, w) uint8; of more than 2,000, evenly spaced ones are looked at.
    Raises: ValueError for images of another shape or dtype.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or len(images) == 0:
        raise ValueError(
            f"images have shape {tuple(images.shape)} and dtype {images.dtype}; "
            "expected at least one image, (n, channels, height, width) uint8."
        )
    step = math.ceil(len(images) / _MANY)
    images = images[::step]
    grey, side, cautions = grey_share(images) >= 0.9, min(images.shape[2:]), []
    n, ways = len(images), ("upside-down", "turn")
    upright = n >= _FEW and any(_broken(images, way) for way in ways)
    mirrored = n >= _FEW and _broken(images, "mirror")
    any_way = not upright and all(_kept(images, way) for way in ways)
    kind = "grey images" if grey else "colour images" if images.shape[1] == 3 else "images of bands"
    what = f"{kind} of {side} px"
    if grey and any_way:
        return Suggestion("textures", f"{what} without a right way up: any rotation is safe.", ())
    if upright:
        reason = f"{what} with a right way up: crops without rotation."
        cautions.append("Rotation and vertical flips change what these images show: leave them off.")
    elif any_way:
        reason = f"{what} without a right way up: crops."
        if "rotation" not in given:
            cautions.append("Rotations look safe and may help: views.rotation=180, views.vertical_flip=0.5.")
    elif n < _FEW:
        reason = f"{what}: crops without rotation."
        cautions.append(
            f"{plural(n, 'image')} {'is' if n == 1 else 'are'} too few to tell whether flips and rotations are safe "
            f"for {'it' if n == 1 else 'them'}."
        )
    else:
        reason = f"{what}, no right way up was found in {n}, nor excluded: crops without rotation."
    if mirrored and "horizontal_flip" not in given:
        cautions.append("Left and right differ in these images (text, digits?): set views.horizontal_flip=0.")
    if grey:
        cautions.append(
            "Without colours, saturation, hue and grey do nothing: brightness, contrast and crops carry all."
        )
    if side < 64 and "scale" not in given:
        cautions.append(
            f"At {side} px small crops lose what they show: keep views.scale at 0.2 or above, no blur."
        )
    return Suggestion("crops", reason, tuple(cautions))
