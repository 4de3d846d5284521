"""Arrays with transparency, laid over the ground that files are laid over."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._picture import ground_under


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
