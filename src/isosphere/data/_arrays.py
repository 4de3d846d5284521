"""Images that are already arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._source import Source, array_digest


class ArraySource(Source):
    """Images of one array: (n, h, w) grey, (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels.

    Numbers may be uint8, uint16 (divided by 257), bool, or floats in [0, 1] or [0, 255]. The array is kept as
    uint8, channels last; transparency is laid over white.

    Raises: ValueError if shape or numbers are something else.
    """

    in_memory = True

    def __init__(
        self,
        images: NDArray,
        *,
        name: str,
        labels: NDArray[np.int64] | None = None,
        class_names: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        has_test_split: bool = False,
        unreadable: Sequence[tuple[str, str]] = (),
        left_out: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.images = as_bytes(images)
        super().__init__(
            name,
            paths if paths is not None else [f"{name}/{i}" for i in range(len(images))],
            labels=labels,
            class_names=class_names,
            has_test_split=has_test_split,
            unreadable=unreadable,
            left_out=left_out,
        )

    def image(self, i: int, *, at_least: int | None = None) -> Image.Image:
        return Image.fromarray(np.broadcast_to(self.images[i], (*self.images.shape[1:3], 3)))

    def digest(self, i: int) -> bytes:
        return array_digest(self.images[i])


def as_bytes(images: NDArray) -> NDArray[np.uint8]:
    """Images of any of the shapes and numbers of `ArraySource` as uint8 (n, h, w, 1 or 3).

    Raises: ValueError if shape or numbers are something else.
    """
    return _opaque(_bytes(_channels_last(images)))


def _channels_last(images: NDArray) -> NDArray:
    if 0 in images.shape:
        raise ValueError(f"the images have shape {images.shape}; expected at least one image of one pixel")
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[3] in (1, 3, 4):
        return images
    if images.ndim == 4 and images.shape[1] in (1, 3, 4):
        return np.moveaxis(images, 1, 3)
    raise ValueError(
        f"the images have shape {images.shape}; expected (n, h, w), (n, h, w, c) or (n, c, h, w) "
        "with c = 1, 3 or 4"
    )


def _bytes(images: NDArray) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "biuf":
        raise ValueError(f"the images hold {images.dtype}; expected bytes, or floats in [0, 1] or [0, 255]")
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind == "f":
        top = 1.0 if high <= 1 else 255.0
    else:
        top = {"bool": 1.0, "uint16": 65535.0}.get(images.dtype.name, 255.0)
    # Floats that end between 1 and 128 are on some scale of their own, which must not be guessed.
    own_scale = images.dtype.kind == "f" and 1 < high < 128
    if own_scale or not (low >= 0 and high <= top):
        raise ValueError(
            f"the images hold {images.dtype} from {low:g} to {high:g}; expected bytes, or floats that fill "
            "[0, 1] or [0, 255]"
        )
    scaled = np.empty(images.shape, np.uint8)
    for i in range(len(images)):  # one image at a time: the whole array in float64 may not fit
        scaled[i] = np.rint(images[i].astype(np.float64) * (255.0 / top))
    return scaled


def _opaque(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay images with an alpha channel over white."""
    if images.shape[-1] != 4:
        return images
    colour, alpha = images[..., :3].astype(np.uint16), images[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
