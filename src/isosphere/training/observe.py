"""What is looked at after each epoch: figures of fixed images that training does not see."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.data import ImageSet, Source, Views, load_images, open_source, permutation
from isosphere.errors import UsageError
from isosphere.methods import Method, spread_test
from isosphere.statistics import covariance_spectrum, lidar, rankme
from isosphere.training.config import Config
from isosphere.training.monitor import Gauge, gauge, undisturbed

__all__ = ["Observation", "Observer", "hold_out"]

PER_DIMENSION, LEAST, MOST, SHARE = 4, 128, 4096, 8
"""Images looked at: four for each dimension of the embedding, within these bounds, and no more than the eighth part of
the images trained on: a look then takes less than a twentieth of an epoch.
"""

AFFORDABLE = 0.02
"""Share of the images up to which those that are looked at are left out of training."""

VIEW_SEED = 2**31 - 1
"""Every look, of every run, is at the same views of the same images; training never uses this seed's."""

_BATCH = 256


@dataclass(frozen=True)
class Observation:
    """The gauge that warnings are made of, and all figures by column of metrics.csv."""

    gauge: Gauge
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Observer:
    """Looks at a method through two views of fixed images, in evaluation mode, leaving no trace in it.

    Args:
        images: uint8 ``(n, c, size, size)``; each is seen through two views that never change.
        views: the training's. rows: of the batch over all ranks, for the expansion ratio.

    Figures: ``cosine``, ``alignment`` and ``dimensions`` (:class:`~isosphere.training.monitor.Gauge`); of the first
    view alone, so that rows are independent, ``zscore``: standard deviations of the method's own discrepancy from its
    value for uniform points, of Wang and Isola's potential for a method without one (two-sided: 0 is uniform, below
    it is more regular than chance); ``rankme`` and ``rankme_features``: effective rank of embedding and backbone;
    ``top_variance`` and ``top_tenth``: share of the variance in the first direction and the first tenth of them
    (uniform: 1/d and .1); of both views, ``lidar``: directions that tell images apart; and ``expansion_ratio`` where
    the method has one.
    """

    images: Tensor
    views: Views
    rows: int
    _tests: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, method: Any, *, autocast: AbstractContextManager[Any] | None = None) -> Observation:
        with undisturbed(method), autocast or nullcontext():
            features, embeddings = self._look(method)
        first = embeddings[0]
        state = gauge(*embeddings)
        spectrum = covariance_spectrum(first)
        total = spectrum.sum()
        tenth = max(1, round(first.shape[1] / 10))
        figures = {
            **state.as_row(),
            **self._zscore(method, first),
            "rankme": rankme(first).item(),
            "rankme_features": rankme(features).item(),
            "lidar": lidar(embeddings).item(),
            "top_variance": (spectrum[0] / total).item() if total > 0 else 1.0,
            "top_tenth": (spectrum[:tenth].sum() / total).item() if total > 0 else 1.0,
        }
        ratio = (
            method.expansion_ratio(self.rows, self.views.recipe.views) if isinstance(method, Method) else None
        )
        return Observation(state, figures if ratio is None else {**figures, "expansion_ratio": ratio})

    def _look(self, method: Any) -> tuple[Tensor, Tensor]:
        """Backbone features ``(n, p)`` of the first view and embeddings ``(2, n, d)`` of both, float32 on the CPU."""
        features, embeddings = [], []
        device = next(method.parameters()).device
        for start in range(0, len(self.images), _BATCH):
            part = self.images[start : start + _BATCH].to(device)
            index = torch.arange(start, start + len(part), device=device)
            both = [method.embed(view) for view in self.views(part, index=index, epoch=0, seed=VIEW_SEED)[:2]]
            features.append(both[0][0].float().cpu())
            embeddings.append(torch.stack([z.float().cpu() for _, z in both]))
        return torch.cat(features), torch.cat(embeddings, 1)

    @torch.no_grad()
    def _zscore(self, method: Any, z: Tensor) -> dict[str, float]:
        """The z-score, or nothing where the statistic has no finite one; random directions stay those of the start."""
        test = self._tests.setdefault(z.shape[1], spread_test(method, z.shape[1]))
        value = test(functional.normalize(z, dim=1) if test.space == "sphere" else z).item()
        null = test.null(len(z))
        return {"zscore": (value - null.mean) / null.std} if 0 < null.std < float("inf") else {}


def hold_out(
    config: Config, images: ImageSet | Source, dim: int, *, own: Source | None = None
) -> tuple[ImageSet | Source, ImageSet | None, str]:
    """Divide the images into those to train on and those to look at, and say in words which these are.

    The images to look at are, in this order: of the source's own test part; images that the seed draws and that are
    then not trained on, if that costs at most 2 % of them (``data.held_out`` asks for another number); the same and
    trained on. It does not matter for this division whether the monitor is on: switching it changes nothing.

    Args:
        own: the training source, whose test part is opened where it has one.
    """
    size, seed = config.data.canvas_size or 32, config.train.seed
    wanted = min(MOST, max(LEAST, min(PER_DIMENSION * dim, len(images) // SHARE)))
    count = config.data.held_out
    if count is None and own is not None and own.has_test_split and config.data.source is not None:
        if not config.train.monitor:
            return images, None, "none: the monitor is off"
        test = open_source(config.data.source, split="test")
        if len(test) >= 2:
            chosen = permutation(len(test), seed, 0)[:wanted].sort().values.numpy()
            return images, load_images(test.subset(chosen), size), f"{len(chosen):,} images of the test part"
    if count is not None and count > len(images) - 2:
        raise UsageError(
            f"data.held_out = {count} leaves fewer than 2 of {len(images)} images to train on: type --set "
            f"data.held_out={max(2, len(images) // 10)}, or leave it out."
        )
    spare = count if count is not None else wanted if wanted <= AFFORDABLE * len(images) else 0
    order = permutation(len(images), seed, 0)
    chosen = order[: spare or min(wanted, len(images))].sort().values.numpy()
    shown = _in_memory(images.subset(chosen), size) if config.train.monitor else None
    if spare:
        rest = order[spare:].sort().values.numpy()
        return images.subset(rest), shown, f"{spare:,} images, left out of training"
    return images, shown, f"{len(chosen):,} images, trained on as well (there are few)"


def _in_memory(images: ImageSet | Source, size: int) -> ImageSet:
    return images if isinstance(images, ImageSet) else load_images(images, size)
