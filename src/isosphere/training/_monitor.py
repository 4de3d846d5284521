"""What a run is failing at, in words: collapse, or spread without alignment; and the images by which that is seen."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.data import (
    ImageSet,
    Pictures,
    PictureSet,
    Source,
    Views,
    load_images,
    load_pictures,
    permutation,
)
from isosphere.errors import UsageError, option
from isosphere.methods import Method, spread_test
from isosphere.models import evaluation_mode
from isosphere.reductions import in_float64
from isosphere.statistics import (
    COLLAPSED,
    alignment,
    covariance_spectrum,
    lidar,
    mean_cosine,
    participation_ratio,
    rankme,
)
from isosphere.training._config import Config

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
class CollapseMetrics:
    """Three numbers that tell the failures apart, from two views of a few images in evaluation mode.

    ``cosine``: mean cosine between different images (0: spread over the sphere, 1: one point).
    ``alignment``: ``1 - E|z - z'|^2`` over pairs of views / the same over unrelated images (1: views coincide, 0:
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


def collapse_metrics(first: Tensor, second: Tensor) -> CollapseMetrics:
    """The three numbers of two views; row i of `first` and of `second` is the same image.

    Shape: both (n, d), n >= 2. Scale: see `CollapseMetrics`; a sample without spread counts as collapse (1, 0, 0).
    Numerics: float64; no n x n matrix is formed.
    Raises: ValueError for other shapes, and for values that are not finite.
    """
    if len(first) < 2 or first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"got views of shapes {tuple(first.shape)} and {tuple(second.shape)}, expected two of one (n >= 2, d)"
        )
    pair = in_float64(torch.stack([first, second]))
    if not torch.isfinite(pair).all():
        raise ValueError("got embeddings that are not finite, expected numbers: the network has overflowed")
    x, y = pair
    n, most = len(x), min(x.shape[1], 2 * len(x) - 1)
    related = alignment(pair)
    # Sum over i != j of |x_i - y_j|^2 = n sum |x|^2 + n sum |y|^2 - 2 <sum x, sum y>, less the pairs i = j.
    everything = n * pair.square().sum() - 2 * x.sum(0) @ y.sum(0)
    unrelated = (everything - n * related) / (n * (n - 1))
    if unrelated <= NO_SPREAD * pair.square().sum(-1).mean():
        return CollapseMetrics(1.0, 0.0, 0.0, most)
    cosine = mean_cosine(functional.normalize(x, dim=1))
    dimensions = participation_ratio(pair.flatten(0, 1))
    return CollapseMetrics(cosine.item(), (1 - related / unrelated).item(), dimensions.item(), most)


def measure(method: Method, views: Sequence[Tensor]) -> CollapseMetrics:
    """The collapse metrics of a method on the first two of `views`, leaving no trace in it."""
    with evaluation_mode(method):
        embeddings = [method.embed(view)[1] for view in views[:2]]
    return collapse_metrics(*embeddings)


def verdict(
    state: CollapseMetrics,
    *,
    progress: float,
    steps: int,
    spread_setting: tuple[str, float] | None = None,
    start: CollapseMetrics | None = None,
) -> str | None:
    """The failure in one or two sentences with what to change, or None if all is well or it is too early to say.

    `start` is the state before the first step: embeddings that are packed more closely than they were then
    are on their way to one point, and that is said at the first look, without waiting. `spread_setting` is the
    setting that spreads embeddings more where it is larger, and its value.
    """
    if start is not None and steps >= FIRST_LOOK and _shrinking(state, start):
        seen = _cosine(state, f", at the start {start.cosine:.4g}")
        return f"Collapse: the embeddings of different images are moving together {seen}. {_spread(spread_setting)}"
    if progress < PATIENCE or steps < LEAST_STEPS:
        return None
    if state.cosine > COLLAPSED:
        seen = _cosine(state)
        return f"Collapse: different images have nearly the same embedding {seen}. {_spread(spread_setting)}"
    if state.dimensions < FLAT and state.most >= 8 * FLAT:
        return (
            f"Collapse of dimensions: the embeddings lie along {state.dimensions:.2g} direction(s) of {state.most}. "
            f"{_spread(spread_setting)}"
        )
    if state.alignment < UNALIGNED:
        last = ""
        if spread_setting is not None:
            name, value = spread_setting
            last = f", or a smaller {option(name, _round(value / 2))}"
        return (
            "Spread without alignment: two views of one image are as far apart as views of different images (closeness "
            f"{state.alignment:.2f}; 1: the same point), so nothing is being learned. The views hide what "
            f"identifies an image: start anew with milder ones (a smaller {option('views.rotation', ...)}, a narrower "
            f"{option('views.scale', [0.5, 1])}), larger images ({option('image_size')}), or a longer run{last}."
        )
    return None


def _shrinking(state: CollapseMetrics, start: CollapseMetrics) -> bool:
    return state.cosine > COLLAPSED and 1 - state.cosine < SHRUNK * (1 - start.cosine)


def _cosine(state: CollapseMetrics, was: str = "") -> str:
    return f"(mean cosine {state.cosine:.4g}{was}; 0 would be spread)"


def _spread(setting: tuple[str, float] | None) -> str:
    """What to change so that embeddings spread."""
    if setting is None:
        return (
            "This method has no weight that would spread them: start anew with a lower "
            f"{option('optim.learning_rate', ...)}, a larger batch, or another {option('method')}."
        )
    name, value = setting
    return (
        f"What spreads them is too weak against the invariance: start anew with a larger {more_spread(name, value)} "
        f"(now {value:.3g}), a larger batch, or another {option('method')}."
    )


def more_spread(name: str, value: float) -> str:
    """The setting that spreads embeddings as one would type it for twice the spread beside the invariance; a weight of
    the regulariser shares 1 with that of the invariance.
    """
    return option(name, _round(2 * value / (1 + value) if name == "method.weight" else 2 * value))


def _round(value: float) -> float:
    return float(f"{value:.2g}")


# --- what is looked at after each epoch: fixed images that training does not see ----------------------------

PER_DIMENSION, LEAST, MOST, SHARE = 4, 128, 4096, 8
"""Images looked at: four for each dimension of the embedding, within these bounds, and no more than the eighth part of
the images trained on: a look then takes less than a twentieth of an epoch.
"""

FROM_WEIGHTS = 512
"""The most that are looked at, and always left out of training, where the run ends with the best of several weights."""

AFFORDABLE = 0.02
"""Share of the images up to which those that are looked at are left out of training."""

VIEW_SEED = 2**31 - 1
"""Every look, of every run, is at the same views of the same images; training never uses this seed's."""

_BATCH = 256


@dataclass(frozen=True)
class Observation:
    """The metrics that warnings are made of, all figures by column of metrics.csv, and the backbone's features
    ``(2, n, p)`` of both views.
    """

    collapse: CollapseMetrics
    figures: dict[str, float]
    features: Tensor


@dataclass(frozen=True)
class Observer:
    """Looks at a method through two views of fixed images, in evaluation mode, leaving no trace in it.

    Args:
        images: uint8 ``(n, c, size, size)``, or pictures of several shapes; each is seen through two views that never
            change.
        views: the training's. rows: of the batch over all ranks, for the expansion ratio.

    Figures: ``cosine``, ``alignment`` and ``dimensions`` (:class:`CollapseMetrics`); of the first view alone, so that
    rows are independent, ``zscore``: standard deviations of the method's own discrepancy from its value for uniform
    points, of Wang and Isola's potential for a method without one (two-sided: 0 is uniform, below it is more regular
    than chance); ``rankme`` and ``rankme_features``: effective rank of embedding and backbone; ``top_variance`` and
    ``top_tenth``: share of the variance in the first direction and the first tenth of them (uniform: 1/d and .1); of
    both views, ``lidar``: directions that tell images apart; and ``expansion_ratio`` where the method has one.
    """

    images: Tensor | Pictures
    views: Views
    rows: int
    _tests: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __call__(
        self, method: Method, *, autocast: AbstractContextManager[object] | None = None
    ) -> Observation:
        with evaluation_mode(method), autocast or nullcontext():
            features, embeddings = self._look(method)
        first = embeddings[0]
        state = collapse_metrics(*embeddings)
        spectrum = covariance_spectrum(first)
        total = spectrum.sum()
        tenth = max(1, round(first.shape[1] / 10))
        figures = {
            **state.as_row(),
            **self._zscore(method, first),
            "rankme": rankme(first).item(),
            "rankme_features": rankme(features[0]).item(),
            "lidar": lidar(embeddings).item(),
            "top_variance": (spectrum[0] / total).item() if total > 0 else 1.0,
            "top_tenth": (spectrum[:tenth].sum() / total).item() if total > 0 else 1.0,
        }
        ratio = method.expansion_ratio(self.rows, self.views.recipe.views)
        return Observation(
            state, figures if ratio is None else {**figures, "expansion_ratio": ratio}, features
        )

    def features(self, method: Method, *, autocast: AbstractContextManager[object] | None = None) -> Tensor:
        """The backbone's features ``(2, n, p)`` of both views alone."""
        with evaluation_mode(method), autocast or nullcontext():
            return self._look(method)[0]

    def _look(self, method: Method) -> tuple[Tensor, Tensor]:
        """Backbone features ``(2, n, p)`` and embeddings ``(2, n, d)`` of both views, float32 on the CPU."""
        features, embeddings = [], []
        device = next(method.parameters()).device
        for start in range(0, len(self.images), _BATCH):
            part = self.images[start : start + _BATCH].to(device)
            index = torch.arange(start, start + len(part))
            both = [
                method.embed(view)
                for view in self.views.in_pairs(part, index=index, epoch=0, seed=VIEW_SEED)[:2]
            ]
            features.append(torch.stack([x.float().cpu() for x, _ in both]))
            embeddings.append(torch.stack([z.float().cpu() for _, z in both]))
        return torch.cat(features, 1), torch.cat(embeddings, 1)

    @torch.no_grad()
    def _zscore(self, method: Method, z: Tensor) -> dict[str, float]:
        """The z-score, or nothing where the statistic has no finite one; random directions stay those of the start."""
        test = self._tests.setdefault(z.shape[1], spread_test(method, z.shape[1]))
        value = test(functional.normalize(z, dim=1) if test.space == "sphere" else z).item()
        null = test.null(len(z))
        return {"zscore": (value - null.mean) / null.std} if 0 < null.std < float("inf") else {}


def hold_out(
    config: Config, images: ImageSet | PictureSet | Source, dim: int, *, test: Source | None = None
) -> tuple[ImageSet | PictureSet | Source, ImageSet | PictureSet | None, str]:
    """Divide the images into those to train on and those to look at, and say in words which these are.

    The images to look at are, in this order: of the source's own test part; images that the seed draws and that are
    then not trained on, if that costs at most 2 % of them (``data.held_out`` asks for another number); the same and
    trained on. It does not matter for this split whether the monitor is on: switching it changes nothing. Where the run
    ends with the best of several weights, images to choose by are left out of training and looked at in any case.

    Args:
        test: the test part of the source, where it has one.
    """
    seed = config.train.seed
    chooses, looks = config.train.load_best, config.train.load_best or config.train.monitor
    most = max(2, min(FROM_WEIGHTS, len(images) // SHARE)) if chooses else MOST
    wanted = min(most, max(LEAST, min(PER_DIMENSION * dim, len(images) // SHARE)))
    count = config.data.held_out
    if count is None and test is not None and len(test) >= 2 and not chooses:
        if not looks:
            return images, None, "none: the monitor is off"
        chosen = permutation(len(test), seed, 0)[:wanted].sort().values.numpy()
        return images, _in_memory(test.subset(chosen), config), f"{len(chosen):,} images of the test part"
    if count is not None and count > len(images) - 2:
        raise UsageError(
            f"data.held_out = {count} leaves fewer than 2 of {len(images)} images to train on: give "
            f"{option('data.held_out', max(2, len(images) // 10))}, or leave it out."
        )
    left = len(images) - wanted >= (config.train.batch_size or 2)
    cheap = left if chooses else wanted <= AFFORDABLE * len(images)
    spare = count if count is not None else wanted if cheap else 0
    order = permutation(len(images), seed, 0)
    chosen = order[: spare or min(wanted, len(images))].sort().values.numpy()
    shown = _in_memory(images.subset(chosen), config) if looks else None
    if spare:
        rest = order[spare:].sort().values.numpy()
        return images.subset(rest), shown, f"{spare:,} images, left out of training"
    return images, shown, f"{len(chosen):,} images, trained on as well (there are few)"


def _in_memory(images: ImageSet | PictureSet | Source, config: Config) -> ImageSet | PictureSet:
    if not isinstance(images, Source):
        return images
    return (load_pictures if config.data.whole else load_images)(images, config.data.canvas_size or 32)
