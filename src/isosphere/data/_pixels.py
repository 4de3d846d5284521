"""How a picture becomes the tensor that an encoder is given: one value, the same in every command."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import _picture
from ._opening import USUAL, Opening
from ._picture import Bands, Channels, fit_square, timm_square
from ._recipes import IMAGENET_MEAN, IMAGENET_STD
from ._views import centre_view


def picture_reader() -> str:
    """The source of `isosphere.data.pixels` with all that it needs beside numpy and Pillow."""
    return inspect.getsource(_picture)


PIXELS = 3
"""Which pixels a file becomes: raised where they change, so that what is kept of other pixels is not taken for them."""

Fit = Literal["crop", "pad", "squeeze"]
WHOLE: Fit = "squeeze"
"""How search and duplicates look at a picture: at all of it (docs/decisions.md says why not between bars)."""

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


Picture = Image.Image | Bands
"""A decoded picture: of mode RGB, or L for grey as one channel, or of any number of bands."""


def to_tensor(image: Picture) -> Tensor:
    """Copy a decoded picture into a tensor: uint8, shape (channels, h, w)."""
    if isinstance(image, Bands) or image.mode == "L":
        return torch.from_numpy(np.stack([np.asarray(plane) for plane in image.split()]))
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def visible(image: Picture) -> Image.Image:
    """What is shown of a picture to people: its first three channels as red, green and blue, or the first as grey."""
    if isinstance(image, Image.Image):
        return image
    first, *others = image.planes
    return Image.merge("RGB", (first, *others[:2])) if len(others) >= 2 else first


def visible_channels(images: Tensor) -> Tensor:
    """Those channels of a tensor that `visible` shows. Shape: (..., c, h, w), c becomes 3 or 1."""
    return images[..., : 3 if images.shape[-3] >= 3 else 1, :, :]


class TimmTransform(NamedTuple):
    """What timm's evaluation transform does besides size, mean and std, as a ``pretrained_cfg`` says it.

    ``crop_mode``: ``center``, ``squash`` or ``border``; ``fill``: the colour of the border, 0 to 255.
    """

    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    fill: tuple[int, ...] = (0, 0, 0)

    @classmethod
    def of(cls, pretrained_cfg: Mapping[str, Any]) -> Self:
        """As ``timm.data.resolve_data_config`` fills in what is not said. Raises: ValueError for what timm has not."""
        own = cls(*(pretrained_cfg.get(name) or default for name, default in cls._field_defaults.items()))
        if not 0 < own.crop_pct <= 1:
            raise ValueError(f"crop_pct is {own.crop_pct}; expected a number above 0, at most 1")
        if own.crop_mode not in CROP_MODES:
            raise ValueError(f"crop_mode is '{own.crop_mode}'; expected {', '.join(CROP_MODES)}")
        if own.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is '{own.interpolation}'; expected {', '.join(INTERPOLATIONS)}")
        mean = pretrained_cfg.get("mean") or IMAGENET_MEAN
        return own._replace(fill=tuple(round(255 * value) for value in mean))


@dataclass(frozen=True)
class Reading:
    """How a picture of any size and numbers becomes a square of bytes; a `Source` reads its images by one of these.

    ``fit``: the central square (``crop``), the whole picture between bars (``pad``), or the whole brought to a square
    (``squeeze``). ``white``: the number that is shown as white in pictures of more than 8 bits; None: the largest of
    their type. ``timm``: the central square is that of timm's evaluation transform. ``opening``: which picture of a
    file, and its ground. ``channels``: which are taken; None: all, of pictures with 1 or 3 red, green and blue.
    ``bars``: the level of each channel between the bars, where it is not that of ImageNet's mean.
    """

    fit: Fit = "crop"
    white: float | None = None
    timm: TimmTransform | None = None
    opening: Opening = USUAL
    channels: Channels | None = None
    bars: tuple[int, ...] | None = None

    @property
    def by_timm(self) -> TimmTransform | None:
        """timm's transform, where pictures are cropped by it: of a whole picture it says nothing."""
        return self.timm if self.fit == "crop" else None

    @property
    def one_square(self) -> bool:
        """Whether a square picture becomes the same by every fit."""
        return self.timm is None

    def seen(self, width: int, height: int) -> float:
        """Which share of a picture is looked at."""
        timm, square = self.by_timm, min(width, height) / max(width, height)
        if timm is None:
            return square if self.fit == "crop" else 1.0
        return timm.crop_pct**2 * (square if timm.crop_mode == "center" else 1.0)

    def at_least(self, size: int) -> int | None:
        """To how many pixels a decoder may shrink a picture that becomes ``size``; None: timm's are decoded whole."""
        return None if self.by_timm else 2 * size

    def square(self, image: Picture, size: int) -> Tensor:
        """A picture that was decoded, as uint8 (channels, size, size)."""
        timm = self.by_timm
        return to_tensor(
            fit_square(image, size, self.fit, self.bars) if timm is None else timm_square(image, size, *timm)
        )


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes what an encoder is given for evaluation: a square of ``canvas`` pixels by ``reading``, from
    which the view of ``size`` pixels is made, normalised by ``mean`` and ``std``.

    The canvas is that of training, so that training, evaluation and application speak of the same features; of a
    network that came with weights it is the size, and the square that of timm's evaluation transform.
    """

    canvas: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reading: Reading = field(default_factory=Reading)

    @classmethod
    def of_timm(cls, pretrained_cfg: Any, size: int | None = None, *, white: float | None = None) -> Self:
        """The pixels of a network of timm, to the bit those of its own evaluation transform.

        ``Pixels.of_timm(model.pretrained_cfg)`` takes what ``create_transform(**resolve_data_config({}, model=model))``
        does. Read images with ``source.read_as(pixels.reading)`` at ``pixels.canvas``, then ``pixels.view(images)``;
        ``pixels.fitted("pad")`` looks at the whole picture.

        Args:
            pretrained_cfg: a mapping, or timm's ``PretrainedCfg``.
            size: side in pixels; None: that of ``input_size``, or 224.
            white: of `Reading`.

        Raises: ValueError for a crop or an interpolation that timm does not have.
        """
        known = pretrained_cfg or {}
        cfg = dict(known) if isinstance(known, Mapping) else asdict(known) if is_dataclass(known) else None  # type: ignore[call-overload]
        if cfg is None:
            raise ValueError(f"pretrained_cfg is of type {type(known).__name__}; expected a mapping")
        side = size or int((cfg.get("input_size") or (3, 224, 224))[-1])
        mean, std = (tuple(cfg.get(k) or v) for k, v in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
        return cls(side, side, mean, std, Reading(white=white, timm=TimmTransform.of(cfg)))

    def view(self, images: Tensor) -> Tensor:
        """Squares of the canvas as the network takes them: uint8 (n, c, canvas, canvas) to (n, c, size, size)."""
        return centre_view(images, self.size, self.mean, self.std)

    def fitted(self, fit: Fit) -> Self:
        """The same with another fit."""
        return replace(self, reading=replace(self.reading, fit=fit))

    @property
    def arguments(self) -> dict[str, Any]:
        """What `isosphere.data.pixels` takes to make a picture so, in [0, 1]."""
        given: dict[str, Any] = {"canvas": self.canvas, "size": self.size}
        given |= {"fit": self.reading.fit, "white": self.reading.white}
        given |= {k: v for k, v in self.reading.opening._asdict().items() if k in ("page", "ground")}
        if self.reading.by_timm:
            given["timm"] = tuple(self.reading.by_timm)
        if self.reading.channels is not None:
            given["channels"] = str(self.reading.channels)
        if self.reading.bars is not None:
            given["bars"] = self.reading.bars
        return given

    def script(self, *, normalised: bool = True) -> str:
        """A file of Python that does the same by numpy and Pillow alone.

        It defines ``prepare(picture)``, from a file or a picture of Pillow to float32 (channels, size, size); without
        ``normalised`` in [0, 1].
        """
        given = self.arguments | ({"mean": self.mean, "std": self.std} if normalised else {})
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return (
            f"{picture_reader()}\n\ndef prepare(picture):\n"
            '    """A file, its bytes, a picture of Pillow or an array (h, w[, bands]) as the network takes it."""\n'
            f"    return pixels(picture, {arguments})\n"
        )

    @property
    def key(self) -> dict[str, Any]:
        """All that features depend on besides weights and images, for JSON."""
        timm = self.reading.by_timm
        return {
            **({} if timm is None else {"timm": list(timm)}),
            **self.reading.opening.chosen,
            "pixels": PIXELS,
            "canvas": self.canvas,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.reading.fit,
            "white": self.reading.white,
            "channels": str(self.reading.channels or "rgb"),
            "bars": self.reading.bars,
        }
