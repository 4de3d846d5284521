"""How alike copies are to this network: measured on copies made of the images at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isosphere.data import WHOLE, CopiedSource, Source, digests, permutation
from isosphere.deploy import Embedder, Index, Layer, open_index
from isosphere.errors import RunError, plural
from isosphere.evaluation import (
    CopyThreshold,
    Estimate,
    choose_threshold,
    copy_cosines,
    copy_precision,
)
from isosphere.workflows._progress import Callback

COPIES = 400
"""Images of which a copy is made."""
OTHERS = 1600
"""Further images among which a copy is sought when layers are compared."""


@dataclass(frozen=True, eq=False)
class CopySample:
    """Some images of a source, copies of the first of them, and how well each layer finds these.

    `cosines` of each copy to its original by layer; `kinds`: what was done to it; `precision` by layer: average
    precision of the copies among all pairs of a copy and one of the `images` (:func:`copy_precision`).
    """

    cosines: Mapping[Layer, Tensor]
    kinds: tuple[str, ...]
    precision: Mapping[Layer, Estimate]
    images: int
    seed: int = 0

    @property
    def best(self) -> Layer:
        """The layer that finds copies best, the earlier of equals."""
        return max(self.precision, key=lambda layer: self.precision[layer].value)

    def choose(
        self,
        index: Index,
        *,
        threshold: float | None = None,
        false_pairs: float = 1.0,
        pairs: int | None = None,
    ) -> CopyThreshold:
        """What a threshold finds among the images of an index; None: the one that
        :func:`isosphere.evaluation.choose_threshold` takes.
        """
        cosines = self.cosines[index.layer]
        options: dict[str, Any] = {"threshold": threshold, "false_pairs": false_pairs, "pairs": pairs}
        return choose_threshold(cosines, self.kinds, index.unit, seed=self.seed, **options)


def sample_copies(
    run: Embedder,
    source: Source,
    *,
    layer: Layer | None = None,
    count: int = COPIES,
    others: int = OTHERS,
    seed: int = 0,
    progress: Callback | None = None,
) -> CopySample:
    """Copies of some images of a source, made by JPEG, resizing and slight crops, through the network.

    Args:
        run: with the number that is white settled for the source.
        layer: the only one that is looked at; None: all that the run has.

    Raises: RunError if no copy can be made.
    """
    run = run.fitted(WHOLE)
    order = permutation(len(source), seed, 3).numpy()
    some = source.subset(order[: count + others])
    copies = CopiedSource(some.subset(np.arange(min(count, len(some)))), seed=seed)
    total = len(some) + len(copies)
    layers = (layer,) if layer is not None else run.layers
    cosines: dict[Layer, Tensor] = {}
    precision: dict[Layer, Estimate] = {}
    kinds: tuple[str, ...] = ()
    for number, each in enumerate(layers):
        steps = [_of(progress if number == 0 else None, before, total) for before in (0, len(some))]
        images = open_index(run, some, layer=each, progress=steps[0])
        made = open_index(run, copies, layer=each, progress=steps[1])
        assert images.positions is not None
        assert made.positions is not None
        place = np.full(len(some), -1)
        place[images.positions] = np.arange(len(images))
        there = place[made.positions] >= 0
        rows, own = place[made.positions][there], made.unit[torch.from_numpy(there)]
        if not len(rows):
            raise RunError(f"no copy can be made of {plural(len(copies), 'image')} of {source.name}.")
        first = np.concatenate([rows, np.setdiff1d(np.arange(len(images)), rows)])
        ordered, same = images.unit[first], _contents(some, images.positions[first])
        cosines[each] = copy_cosines(ordered[: len(rows)], own)
        precision[each] = copy_precision(ordered, own, same=same, seed=seed)
        kinds = tuple(copies.copying(int(i)).kind for i in made.positions[there])
    return CopySample(cosines, kinds, precision, len(some), seed)


def _contents(source: Source, positions: np.ndarray) -> Tensor:
    """A number for the content of each image, the same for files that are the same."""
    known = digests(source.subset(positions))
    found: dict[bytes, int] = {}
    keys = [row.tobytes() if row.any() else f"{i}".encode() for i, row in enumerate(known)]
    return torch.tensor([found.setdefault(key, len(found)) for key in keys])


def _of(progress: Callback | None, before: int, total: int) -> Callback | None:
    """A part of a longer work as the whole of it."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
