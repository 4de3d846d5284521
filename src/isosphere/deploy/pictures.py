"""What people ask a network about: data by name, or one picture or several that are at hand."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from isosphere.data import Source, as_source, is_image_name

__all__ = ["is_named", "source_of"]


def source_of(images: Any) -> Source:
    """Data by name or pictures at hand as a source; a single picture is a source of one.

    Raises: UsageError for what is neither.
    """
    return as_source([images] if _is_single(images) else images)


def is_named(images: Any) -> bool:
    """Whether it is data that the command line could name, not the file of one picture."""
    if isinstance(images, str):
        return not (is_image_name(images) and Path(images).is_file())
    return isinstance(images, Path) and (images.is_dir() or not is_image_name(images.name))


def _is_single(images: Any) -> bool:
    if isinstance(images, (str, Path)):
        return not is_named(images)
    if isinstance(images, (np.ndarray, Tensor)):
        colour = images.shape[0] if isinstance(images, Tensor) else images.shape[-1]
        return images.ndim == 2 or (images.ndim == 3 and colour == 3)
    return isinstance(images, Image.Image)
