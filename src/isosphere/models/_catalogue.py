"""The encoders that there are: size of images, parameters, and how fast they are."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from isosphere.models._encoder import encoder_names
from isosphere.models._small_conv import SMALL_CONV

FIRST = {
    SMALL_CONV: "images up to 64 px, trained from nothing, also without a GPU",
    "resnet18": "larger images, trained from nothing, on a GPU",
    "resnet50": "the same, as most papers do it",
    "tf_efficientnet_lite0": "photographs, adapted; also without a GPU",
    "convnext_nano": "photographs, adapted; better and slower",
    "vit_small_patch14_dinov2": "photographs and textures, adapted; self-supervised, on a GPU",
}
"""Encoders to take first, and for what."""

LARGEST = 224
"""Side of the images at which speeds are compared, of networks that are made for larger ones."""
SPEEDS = {"fast": 1e9, "medium": 5e9, "slow": 20e9}
"""Multiplications of an image below which a network is so called; with more it is very slow."""


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder: side of the images that it is made for in pixels, parameters without a classifier,
    multiplications for such an image; None where nobody has counted.
    """

    name: str
    image_size: int | None = None
    parameters: int | None = None
    multiplications: int | None = None

    @property
    def speed(self) -> str:
        """``fast``, ``medium``, ``slow`` or ``very slow``, at 224 px at the most; empty where it is not known."""
        if self.multiplications is None or self.image_size is None:
            return ""
        at_most = self.multiplications * min(1.0, LARGEST / self.image_size) ** 2
        return next((name for name, limit in SPEEDS.items() if at_most < limit), "very slow")


def encoder_facts() -> list[EncoderFacts]:
    """All encoders, in the order of :func:`encoder_names`; those that are newer than the table have no facts."""
    known = _table()
    return [known.get(name, EncoderFacts(name)) for name in encoder_names()]


@cache
def _table() -> dict[str, EncoderFacts]:
    """Counted by benchmarks/encoders.py."""
    text = (files("isosphere.models") / "encoders.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return {
        row["name"]: EncoderFacts(
            row["name"],
            *(int(row[key]) if row[key] else None for key in ("image_size", "parameters", "multiplications")),
        )
        for row in rows
    }
