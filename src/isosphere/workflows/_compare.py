"""Which run, layer and number of passes suits some labels best, and whether these labels can tell."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isosphere.data import as_name
from isosphere.deploy import Layer, named_layer
from isosphere.errors import IsosphereError, UsageError, plural
from isosphere.evaluation import Estimate, bootstrap, held_out_labels, paired_difference
from isosphere.methods import Method
from isosphere.training import untrained
from isosphere.workflows._classifier import features_of
from isosphere.workflows._labelled import labelled_images
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._run import Run
from isosphere.workflows._splits import own_images

PASSES = (1, 2)
LEVEL = 0.95


@dataclass(frozen=True)
class Rank:
    """A run, a layer and a number of passes: `accuracy` of a probe on images that it was not fitted to; `behind`: by
    how much it is behind the first, None for the first; `tied`: these labels cannot tell it from the first.
    """

    run: str
    layer: str
    passes: int
    accuracy: Estimate
    behind: Estimate | None
    tied: bool

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        passes = "" if self.passes == 1 else f" with {self.passes} passes"
        return f"{self.run}, {self.layer}{passes}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON and CSV."""
        behind = None if self.behind is None else self.behind.as_dict()
        accuracy = self.accuracy.as_dict()
        return {
            "run": self.run,
            "layer": self.layer,
            "passes": self.passes,
            "accuracy": accuracy["value"],
            "low": accuracy["low"],
            "high": accuracy["high"],
            "behind": behind and behind["value"],
            "behind_low": behind and behind["low"],
            "behind_high": behind and behind["high"],
            "tied": self.tied,
        }


@dataclass(frozen=True)
class Ranking:
    """Candidates, the best first; `images` with labels in so many `groups`, `largest` the share of the largest class;
    what to beware of.
    """

    ranks: list[Rank]
    images: int
    groups: int
    largest: float
    remarks: list[str]

    @property
    def verdict(self) -> str:
        """Whether the labels decide, and about how many would, in a sentence."""
        first, *others = self.ranks
        tied = [each for each in others if each.tied]
        named = first.name
        if not others:
            return f"{named} is the only one: there is nothing to compare it with."
        if not tied:
            return f"{named} is the best by these {self.images:,} labels."
        cannot = (
            f"These {self.images:,} labels cannot tell {named} from {plural(len(tied), 'other')} "
            f"({'; '.join(each.name for each in tied[:3])}{'; ...' * (len(tied) > 3)})"
        )
        enough = self.enough
        if enough is None:
            return f"{cannot}: more labels would. Until then take the first, or the one that costs least."
        many = "A few more" if enough < 1.1 * self.images else f"About {_round(enough):,}"
        would = f"{many} labels would, if the differences stay"
        return f"{cannot}. {would}; or take the one that costs least."

    @property
    def enough(self) -> int | None:
        """About how many labels would tell the first from the best of those that these labels cannot tell from it: an
        interval is as wide as one over the root of their number. None where there is none, or they do not differ.
        """
        behind = next((each.behind for each in self.ranks[1:] if each.tied), None)
        if behind is None or behind.value <= 0:
            return None
        ratio = (behind.value - behind.low) / behind.value
        return max(self.images + 1, math.ceil(self.images * ratio**2))


def compare(
    runs: Sequence[Run | str | Path] | Run | str | Path,
    labels: str | Path | None = None,
    *,
    data: Any = None,
    layers: Sequence[str] | None = None,
    passes: Sequence[int] = PASSES,
    group: str | None = None,
    seed: int = 0,
    cache: bool = True,
    progress: bool | Callback = True,
) -> Ranking:
    """Rank runs, their layers and numbers of passes by a linear probe on labelled images, and the networks that the
    runs began with among them.

    All are judged on the same folds of the same images (:func:`isosphere.evaluation.held_out_labels`), so that their
    differences are paired; intervals are of the cluster bootstrap over groups of images (:func:`labelled_images`). The
    first is compared with each of the m others at level 1 - 0.05 / m (Bonferroni), since it was chosen as the best.

    Args:
        runs: runs or their folders, ``timm:NAME`` among them.
        labels: a table; None: the classes of the images. data: images; None: those of the first run.
        layers: only these; None: all that a run has.

    Raises: UsageError for labels that do not do, or a run that is none; RunError if nothing can be read.
    """
    listed = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    if not listed:
        raise UsageError("no run was named to be compared.")
    opened = [run if isinstance(run, Run) else Run.read(run, cache=cache) for run in listed]
    layers = None if layers is None else [_layer_of_any(layer, opened) for layer in layers]
    images = own_images(opened[0]) if data is None else as_name(data)
    remarks: list[str] = []
    with progress_bar("Embedding", progress) as bar:
        found = labelled_images(opened[0], images, labels, group=group, seed=seed, progress=bar)
        scores: dict[tuple[str, str, int], Tensor] = {}
        readable: Tensor | None = None
        for name, run, layer in _candidates(opened, layers, remarks):
            for number in passes:
                features, kept = features_of(run.looking(number), found, layer, bar)
                readable = kept if readable is None else readable
                if not torch.equal(kept, readable):
                    raise UsageError(f"{name} cannot read the same images as the first run: leave it out.")
                y, groups = found.labels[kept], found.groups[kept]
                said = held_out_labels(features, y, groups, seed=seed)
                scores[name, layer, number] = (said == y).double()
    assert readable is not None
    y, groups = found.labels[readable], found.groups[readable]
    ranks = ranked(scores, groups, seed=seed)
    share = float(torch.bincount(y).max() / len(y))
    return Ranking(ranks, len(y), len(groups.unique()), share, [*found.remarks, *remarks])


def ranked(scores: dict[tuple[str, str, int], Tensor], groups: Tensor, *, seed: int = 0) -> list[Rank]:
    """Candidates by their outcomes per image, the best first and of equals the one that was named first."""
    order = sorted(scores, key=lambda name: -float(scores[name].mean()))
    best = scores[order[0]]
    level = 1 - (1 - LEVEL) / max(1, len(order) - 1)
    made = []
    for name in order:
        accuracy = bootstrap(scores[name], groups=groups, unit_interval=True, seed=seed)
        if name == order[0]:
            made.append(Rank(*name, accuracy, None, False))
            continue
        behind = paired_difference(best, scores[name], groups=groups, level=level, seed=seed)
        made.append(Rank(*name, accuracy, behind, not behind.excludes(0)))
    return made


def _candidates(
    runs: Sequence[Run], layers: Sequence[str] | None, remarks: list[str]
) -> Iterator[tuple[str, Run, Layer]]:
    """Each run with each of its layers, then the networks that runs began with, each once."""
    seen = set()
    for run in runs:
        for layer in run.layers:
            if layers is None or layer in layers:
                seen.add((run.weights, layer))
                yield run.called, run, layer
    for run in runs:
        if run.frozen or (layers is not None and "backbone" not in layers):
            continue
        try:
            method = untrained(run.config, run.encoder.spec())
        except IsosphereError as error:
            remarks.append(f"The network that {run.called} began with cannot be had again ({error}).")
            continue
        begun = before_training(run, method)
        if (begun.weights, "backbone") not in seen:
            seen.add((begun.weights, "backbone"))
            yield f"{run.called} before training", begun, "backbone"


def _layer_of_any(layer: str, runs: Sequence[Run]) -> Layer:
    """The layer of this name. Raises: UsageError if none of the runs has it, as the first says it."""
    chosen = named_layer(layer)
    if any(chosen in run.layers for run in runs):
        return chosen
    return runs[0].check_layer(chosen)


def before_training(run: Run, method: Method) -> Run:
    """A run with the network that it began with."""
    made = Run.of(run.folder, run.config, method.to(run.device), cache=run.cache)
    return replace(made, reading=run.reading)


def _round(number: int) -> int:
    """Two digits."""
    scale = 10 ** max(0, len(str(number)) - 2)
    return -(-number // scale) * scale
