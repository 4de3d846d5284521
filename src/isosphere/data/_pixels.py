"""How a picture becomes the tensor that an encoder is given: one value, the same in every command."""

import inspect
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import _picture
from ._picture import fit_square
from ._views import centre_view

PIXELS = 2
"""Which pixels a file becomes: raised where they change, so that what is kept of other pixels is not taken for them."""

Fit = Literal["crop", "pad", "squeeze"]


def to_tensor(image: Image.Image) -> Tensor:
    """Copy an RGB picture into a tensor: uint8, shape (3, h, w)."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Reading:
    """How a picture of any size and numbers becomes a square of bytes; a `Source` reads its images by one of these.

    ``fit``: the central square (``crop``), the whole picture between bars (``pad``), or the whole brought to a square
    (``squeeze``). ``white``: the number that is shown as white in pictures of more than 8 bits; None: the largest of
    their type.
    """

    fit: Fit = "crop"
    white: float | None = None

    def square(self, image: Image.Image, size: int) -> Tensor:
        """A picture that was decoded, as uint8 (3, size, size)."""
        return to_tensor(fit_square(image, size, self.fit))


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes what an encoder is given for evaluation: a square of ``canvas`` pixels by ``reading``, from
    which the view of ``size`` pixels is made, normalised by ``mean`` and ``std``.

    The canvas is that of training, so that training, evaluation and application speak of the same features.
    """

    canvas: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reading: Reading = field(default_factory=Reading)

    def view(self, images: Tensor) -> Tensor:
        """Squares of the canvas as the network takes them: uint8 (n, c, canvas, canvas) to (n, c, size, size)."""
        return centre_view(images, self.size, self.mean, self.std)

    def fitted(self, fit: Fit) -> Self:
        """The same with another fit."""
        return replace(self, reading=replace(self.reading, fit=fit))

    def script(self, *, normalised: bool = True) -> str:
        """A file of Python that does the same by numpy and Pillow alone.

        It defines ``prepare(picture)``, from a file or a picture of Pillow to float32 (3, size, size); without
        ``normalised`` in [0, 1].
        """
        given: dict[str, Any] = {"canvas": self.canvas, "size": self.size}
        given |= {"fit": self.reading.fit, "white": self.reading.white}
        if normalised:
            given |= {"mean": self.mean, "std": self.std}
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return (
            f"{inspect.getsource(_picture)}\n\ndef prepare(picture):\n"
            '    """A file, its bytes or a picture of Pillow as the network takes it: float32 (3, size, size)."""\n'
            f"    return pixels(picture, {arguments})\n"
        )

    @property
    def key(self) -> dict[str, Any]:
        """All that features depend on besides weights and images, for JSON."""
        return {
            "pixels": PIXELS,
            "canvas": self.canvas,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.reading.fit,
            "white": self.reading.white,
        }
