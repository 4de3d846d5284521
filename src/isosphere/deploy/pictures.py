"""What people have, as a source of images: data by name, or pictures that are at hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from isosphere.data import ImageSet, Source, UnreadableImageError, open_source
from isosphere.data.decode import decode
from isosphere.data.layout import is_image_name
from isosphere.errors import UsageError

__all__ = ["as_source", "is_named", "source_of"]


def source_of(images: Any) -> Source:
    """Data by name or pictures at hand as a source; a single picture is a source of one.

    Raises: UsageError for what is neither.
    """
    return as_source(_one_or_many(images))


def _one_or_many(images: Any) -> Any:
    """What `as_source` takes: one picture as a list of one, tensors ``(..., 3, h, w)`` as arrays ``(..., h, w, 3)``."""
    if isinstance(images, ImageSet):
        images = images.images
    if isinstance(images, (str, Path)):
        return images if is_named(images) else [images]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, Tensor):
        images = _array(images)
    if isinstance(images, np.ndarray):
        single = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] == 3)
        return [images] if single else list(images)
    if isinstance(images, (list, tuple)):
        return [_array(item) if isinstance(item, Tensor) else item for item in images]
    return images


def is_named(images: Any) -> bool:
    """Whether it is data that the command line could name, not the file of one picture."""
    if isinstance(images, str):
        return not (is_image_name(images) and Path(images).is_file())
    return isinstance(images, Path) and (images.is_dir() or not is_image_name(images.name))


def _array(x: Tensor) -> np.ndarray:
    y = x.cpu().numpy()
    return np.moveaxis(y, -3, -1) if y.ndim >= 3 and y.shape[-3] in (1, 3) else y


# --- until isosphere.data.as_source is there ----------------------------------------------------------------------


def as_source(
    data: Any, labels: ArrayLike | None = None, name: str | None = None, split: Any = None
) -> Source:
    """A source of data by name, or of pictures: files, PIL images, uint8 arrays, a torch Dataset of them."""
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)):
        return open_source(data, split=split)
    if isinstance(data, Dataset):
        rows = [data[i] for i in range(len(data))]  # type: ignore[arg-type]
        data = [row[0] if isinstance(row, tuple) else row for row in rows]
    try:
        pictures = list(data)
    except TypeError:
        raise UsageError(
            f"images: got {type(data).__name__}, expected data such as 'PICTURES/', a file, a PIL image, a uint8 "
            "array, or a list of them."
        ) from None
    if not pictures:
        raise UsageError("images: got none, expected at least one picture.")
    kind = "files" if isinstance(pictures[0], (str, Path)) else "images"
    return _Pictures(pictures, labels, name or f"list of {len(pictures)} {kind}")


class _Pictures(Source):
    """Pictures at hand."""

    def __init__(
        self,
        pictures: Sequence[Any],
        labels: Any,
        name: str,
    ) -> None:
        paths = [str(p) if isinstance(p, (str, Path)) else str(i) for i, p in enumerate(pictures)]
        class_names, given = (
            ((), None) if labels is None else np.unique(np.asarray(labels), return_inverse=True)
        )
        super().__init__(name, paths, labels=given, class_names=[str(each) for each in class_names])
        self.pictures = pictures

    def image(self, i: int, *, at_least: int | None = None) -> Image.Image:
        item = self.pictures[i]
        if isinstance(item, (str, Path)):
            return decode(Path(item), at_least=at_least)
        if isinstance(item, Image.Image):
            return ImageOps.exif_transpose(item).convert("RGB")
        array = np.asarray(item)
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3):
            raise UnreadableImageError(
                f"got an array of {array.dtype} and shape {array.shape}, expected uint8 (h, w, 3) or (h, w), values 0 "
                "to 255; a tensor (3, h, w)"
            )
        return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
