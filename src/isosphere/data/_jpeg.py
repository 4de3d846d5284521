"""JPEG files by torchvision's decoder, which copies less than Pillow: taken where it has Pillow's bits."""

import io
from functools import cache
from typing import cast

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor


def is_jpeg(body: bytes) -> bool:
    """Whether a file begins as a JPEG does."""
    return body.startswith(b"\xff\xd8")


def is_plain(image: Image.Image, at_least: int | None) -> bool:
    """Whether Pillow has opened a JPEG of three channels, upright, to be decoded at its full size."""
    if image.format != "JPEG" or image.mode != "RGB" or (at_least and min(image.size) >= 2 * at_least):
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # damaged metadata: Pillow decides
        return False


def by_torchvision(body: bytes) -> Tensor | None:
    """The pixels of a plain JPEG, uint8 (3, h, w), channels last in memory; None where Pillow is to decode it, and to
    say what is wrong.
    """
    return _decoded(body) if _has_bits_of_pillow() else None


@cache
def _has_bits_of_pillow() -> bool:
    """Whether both decode alike here, where each may come with a library of its own. Asked once a process."""
    grain = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    for subsampling in ("4:4:4", "4:2:0"):
        stream = io.BytesIO()
        Image.fromarray(grain).save(stream, "JPEG", quality=80, subsampling=subsampling)
        found = _decoded(stream.getvalue())
        with Image.open(stream) as image:
            theirs = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if found is None or not torch.equal(found, theirs):
            return False
    return True


def _decoded(body: bytes) -> Tensor | None:
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        found = decode_jpeg(torch.frombuffer(bytearray(body), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except RuntimeError:
        return None
    return cast(Tensor, found)  # of one file, not of a list
