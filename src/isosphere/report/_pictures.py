"""Pictures inside a page: thumbnails as data, so that the page is one file and asks no network."""

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def thumbnail(image: Tensor | Image.Image, side: int = 96) -> str:
    """A picture as a data URI, at most `side` pixels; a small one is enlarged by whole pixels, unsmoothed.

    Args:
        image: uint8 or float in [0, 1] ``(c, h, w)``, or a PIL picture.
    """
    picture = image if isinstance(image, Image.Image) else _picture(image)
    longest = max(picture.size)
    if longest > side:
        scale = side / longest
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    # The browser enlarges small ones (image-rendering: pixelated); PNG keeps their few pixels exactly.
    return data_uri(picture, "PNG" if longest <= 48 else "JPEG")


def data_uri(picture: Image.Image, kind: str = "PNG") -> str:
    """A picture as the text of an <img>'s src."""
    stream = io.BytesIO()
    options = {"quality": 85} if kind == "JPEG" else {"optimize": True}
    picture.convert("RGB" if kind == "JPEG" else picture.mode).save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _picture(image: Tensor) -> Image.Image:
    x = image.detach().cpu()
    x = x if x.dtype == torch.uint8 else (x.float().clamp(0, 1) * 255).round().to(torch.uint8)
    array = np.ascontiguousarray(x.permute(1, 2, 0).numpy())
    return Image.fromarray(array if array.shape[2] == 3 else array[..., 0])
