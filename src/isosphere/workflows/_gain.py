"""Whether a training has brought its network above the one that it started from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from isosphere.methods import Method
from isosphere.models import evaluation_mode
from isosphere.statistics import two_view_hits
from isosphere.training import Observer, Parts, untrained

__all__ = ["Gain", "gain_over_start"]

ERRORS = 2.0
"""Standard errors above the start from which on something is said to be gained."""


@dataclass(frozen=True)
class Gain:
    """A share of images for which the features are right, at the start and at the end, and the standard error of the
    difference, over the same images.
    """

    figure: str
    start: float
    end: float
    error: float

    @classmethod
    def of(cls, figure: str, start: Tensor, end: Tensor) -> "Gain":
        """From how often each image is right, ``(n,)`` each, n >= 2."""
        more = (end - start).double()
        return cls(figure, start.mean().item(), end.mean().item(), (more.std() / len(more) ** 0.5).item())

    @property
    def clear(self) -> bool:
        """Whether the end is above the start by :data:`ERRORS` standard errors."""
        return self.end - self.start > ERRORS * self.error

    def __str__(self) -> str:
        below = "below" if self.end < self.start - ERRORS * self.error else "not clearly above"
        return (
            f"the {self.figure} of its features is {100 * self.end:.1f} %, {below} the {100 * self.start:.1f} % of the "
            "untrained network"
        )


def gain_over_start(parts: Parts, right: Callable[[Method], Tensor] | None) -> Gain | None:
    """What the trained method of `parts` has gained over the untrained one of its seed.

    `right`: k-NN hits of a method, where images have labels. Without them it is asked how often the other view of a
    monitored image is found; None where nothing is monitored.
    """
    figure, observer = "k-NN accuracy", parts.observer
    if right is None:
        if observer is None:
            return None
        figure, right = "two-view Recall@1", _views_found(parts, observer)
    found = []
    for method in (untrained(parts.config).to(parts.fabric.device), parts.method):
        with evaluation_mode(method):
            found.append(right(method))
    return Gain.of(figure, *found)


def _views_found(parts: Parts, observer: Observer) -> Callable[[Method], Tensor]:
    """How often the other view of each monitored image is the nearest by a method's features."""
    return lambda method: two_view_hits(observer.features(method, autocast=parts.fabric.autocast()))
