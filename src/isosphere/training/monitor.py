"""What a run is failing at, said in words: collapse, or spread without alignment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from isosphere.statistics import alignment, mean_cosine, participation_ratio
from isosphere.training.compilation import eager

__all__ = ["Gauge", "gauge", "measure", "undisturbed", "verdict"]

COLLAPSED = 0.95
"""Mean cosine between different images above which the embeddings hold next to nothing (untrained: often
.99).
"""

UNALIGNED = 0.05
"""Alignment below which the two views of an image are as far apart as views of different images."""

SHRUNK, FIRST_LOOK = 0.25, 20
"""Share of the spread at the start, 1 - mean cosine, below which the embeddings are on their way to one point, and
the number of steps from which on that is said.
"""

FLAT = 1.5
"""Participation ratio below which the embeddings are hardly more than a line."""

NO_SPREAD = 1e-10
"""Squared distance between images, relative to their squared length, that is rounding and not spread."""

PATIENCE, LEAST_STEPS = 0.1, 100
"""Share of a run, and number of steps, before which nothing is said: every run starts collapsed or unaligned.
"""


@dataclass(frozen=True)
class Gauge:
    """Three numbers that tell the failures apart, from two views of a few images in evaluation mode.

    ``cosine``: mean cosine between different images (0: spread over the sphere, 1: one point).
    ``alignment``: 1 - E|z - z'|^2 over pairs of views / the same over unrelated images (1: views coincide, 0:
    the views of an image are as unrelated as those of different images). ``dimensions``: participation ratio
    of the covariance, (tr C)^2 / tr C^2, at most ``most``, the smaller of d and 2n - 1 (0: not known).
    """

    cosine: float
    alignment: float
    dimensions: float
    most: int = 0

    def as_row(self) -> dict[str, float]:
        """Columns of metrics.csv."""
        return {"cosine": self.cosine, "alignment": self.alignment, "dimensions": self.dimensions}


def gauge(first: Tensor, second: Tensor) -> Gauge:
    """The three numbers of two views; row i of `first` and of `second` is the same image.

    Shape: both (n, d), n >= 2. Scale: see `Gauge`; a sample without spread counts as collapse (1, 0, 0).
    Numerics: float64; no n x n matrix is formed.
    Raises: ValueError for other shapes, and for values that are not finite.
    """
    if len(first) < 2 or first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"got views of shapes {tuple(first.shape)} and {tuple(second.shape)}, expected two of one (n >= "
            "2, d)"
        )
    pair = torch.stack([first, second]).double()
    if not torch.isfinite(pair).all():
        raise ValueError("got embeddings that are not finite, expected numbers: the network has overflowed")
    x, y = pair
    n, most = len(x), min(x.shape[1], 2 * len(x) - 1)
    related = alignment(pair)
    # Sum over i != j of |x_i - y_j|^2 = n sum |x|^2 + n sum |y|^2 - 2 <sum x, sum y>, less the pairs i = j.
    everything = n * pair.square().sum() - 2 * x.sum(0) @ y.sum(0)
    unrelated = (everything - n * related) / (n * (n - 1))
    if unrelated <= NO_SPREAD * pair.square().sum(-1).mean():
        return Gauge(1.0, 0.0, 0.0, most)
    cosine = mean_cosine(functional.normalize(x, dim=1))
    dimensions = participation_ratio(pair.flatten(0, 1))
    return Gauge(cosine.item(), (1 - related / unrelated).item(), dimensions.item(), most)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients; afterwards every module's mode and every generator is as before."""
    modes = [(part, part.training) for part in module.modules()]
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
    module.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), eager(module):
            yield
    finally:
        for part, training in modes:
            part.training = training


def measure(method: Any, views: Sequence[Tensor]) -> Gauge:
    """The gauge of a method on the first two of `views`, leaving no trace in it."""
    with undisturbed(method):
        embeddings = [method.embed(view)[1] for view in views[:2]]
    return gauge(*embeddings)


def verdict(
    state: Gauge,
    *,
    progress: float,
    steps: int,
    lever: tuple[str, float] | None = None,
    start: Gauge | None = None,
) -> str | None:
    """The failure in one or two sentences with what to change, or None if all is well or it is too early to
    say.

    `start` is the gauge before the first step: embeddings that are packed more closely than they were then
    are on their way to one point, and that is said at the first look, without waiting. `lever` is the setting that
    spreads embeddings more where it is larger, and its value.
    """
    if start is not None and steps >= FIRST_LOOK and _shrinking(state, start):
        seen = _cosine(state, f", at the start {start.cosine:.4g}")
        return f"Collapse: the embeddings of different images are moving together {seen}. {_spread(lever)}"
    if progress < PATIENCE or steps < LEAST_STEPS:
        return None
    if state.cosine > COLLAPSED:
        return f"Collapse: different images have nearly the same embedding {_cosine(state)}. {_spread(lever)}"
    if state.dimensions < FLAT and state.most >= 8 * FLAT:
        return (
            f"Collapse of dimensions: the embeddings lie along {state.dimensions:.2g} direction(s) of {state.most}. "
            f"{_spread(lever)}"
        )
    if state.alignment < UNALIGNED:
        return (
            "Spread without alignment: two views of one image are as far apart as views of different images "
            "(alignment "
            f"{state.alignment:.2f}; 1 would be the same point), so nothing is being learned. The views hide "
            "what "
            "identifies an image: start anew with milder ones (a smaller --set views.rotation=..., a "
            "narrower "
            "--set 'views.scale=[0.5, 1]'), larger images (--image-size)"
            + (
                ", or a longer run."
                if lever is None
                else f", a longer run, or a smaller --set {lever[0]}=..."
            )
        )
    return None


def _shrinking(state: Gauge, start: Gauge) -> bool:
    return state.cosine > COLLAPSED and 1 - state.cosine < SHRUNK * (1 - start.cosine)


def _cosine(state: Gauge, was: str = "") -> str:
    return f"(mean cosine {state.cosine:.4g}{was}; 0 would be spread)"


def _spread(lever: tuple[str, float] | None) -> str:
    """What to change so that embeddings spread."""
    if lever is None:
        return (
            "This method has no weight that would spread them: start anew with a lower --set optim.learning_rate=..., "
            "a larger batch, or another --method."
        )
    return (
        "What spreads them is too weak against the invariance: start anew with a larger "
        f"--set {lever[0]}=... (now {lever[1]:.3g}), a larger batch, or another --method."
    )
