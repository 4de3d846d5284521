"""What lies under a picture's transparency: white, or black where nothing would be seen on white."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

_SEEN = 32
"""Levels of 255 by which a pixel must differ from the ground to be seen."""
_ENOUGH = 0.01
"""Share of the pixels that are not transparent of which so much must be seen."""


def ground_under(pieces: Iterable[Image.Image]) -> int:
    """255, or 0 where less than a hundredth of what is not transparent would be seen on white (white glyphs).

    Args:
        pieces: parts of one picture, of mode RGBA.
    """
    seen = visible = 0
    for piece in pieces:
        red, green, blue, alpha = piece.split()
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        contrast = ImageChops.multiply(ImageChops.invert(darkest), alpha)
        seen += sum(contrast.histogram()[_SEEN:])
        visible += sum(alpha.histogram()[_SEEN:])
    return 0 if seen < _ENOUGH * visible else 255


def opaque(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrays of images laid over their grounds. Shape: (n, h, w, c); c = 4 becomes 3, others stay as they are."""
    if images.shape[-1] != 4:
        return images
    shown = np.empty((*images.shape[:-1], 3), np.uint8)
    for i, image in enumerate(images):
        ground = ground_under([Image.fromarray(np.ascontiguousarray(image))])
        colour, alpha = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
        shown[i] = (colour * alpha + ground * (255 - alpha) + 127) // 255
    return shown
