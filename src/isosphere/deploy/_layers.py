"""The outputs of a trained network that can be asked for, by name."""

import warnings
from collections.abc import Callable
from typing import Literal, TypeAlias

from isosphere.errors import UsageError, option

Layer: TypeAlias = Literal["adapted", "backbone", "wccn", "head", "posterior"]

LAYERS: dict[Layer, str] = {
    "adapted": "features of a frozen network, adapted to the images by isosphere adapt",
    "backbone": "features of the encoder, for classes and most other uses",
    "wccn": "these after within-class covariance normalisation, for neighbours: what views differ in counts less",
    "head": "output of the projection head, for finding views of the same image",
    "posterior": "means of what VJE believes of each image, then as many variances: to embed, not to compare",
}


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)


def named_layer(name: str, note: Callable[[str], None] = _warn) -> Layer:
    """The layer of this name; one that has another name now is accepted, and `note` is called with a sentence on it.

    Raises: UsageError if there is none.
    """
    if name == "views":
        note(
            "The layer views is called wccn now (within-class covariance normalisation): "
            + option("layer", "wccn")
        )
        return "wccn"
    for layer in LAYERS:
        if name == layer:
            return layer
    raise UsageError(
        f"{option('layer')}: got '{name}', expected adapted, backbone, wccn or head, and to embed also posterior."
    )
