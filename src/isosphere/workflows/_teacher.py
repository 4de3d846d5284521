"""The network that a smaller one learns from: what it says of each image, once, at its own size."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from isosphere.data import Source
from isosphere.errors import RunError, UsageError, listing, option
from isosphere.methods import distillation_targets
from isosphere.runs import RunFolder
from isosphere.training import duration
from isosphere.workflows._networks import PREFIX, Network, in_its_words, is_network
from isosphere.workflows._trained import Trained

_BLOCK, _BATCH = 128, 32


def called(name: str) -> str:
    """What a command that takes a run calls a teacher, by the name that was typed. Raises: as :meth:`Network.of`."""
    if is_network(name) or RunFolder(name).config.is_file():
        return name
    return str(Network.of(None, name)) if Path(name).is_file() else f"{PREFIX}{name}"


@dataclass
class Teacher:
    """A network of timm's, as it is, or a run, adapted ones among them, by the name that the user typed."""

    name: str
    workers: int = 2
    progress: Callable[[int, int], None] | None = None
    kept: Tensor | None = None
    """What it has said before: it is not asked again."""

    @cached_property
    def network(self) -> Trained:
        """The network. Raises: UsageError or RunError for one that is not to be had."""
        if RunFolder(self.name).config.is_file():
            return Trained.read(self.name)
        if Path(self.name).is_file():
            with in_its_words("NAME"):
                where = "cuda" if torch.cuda.is_available() else "cpu"
                return Trained.as_it_is(Network.of(None, self.name), device=where)
        if "/" in self.name.partition("@")[0] and not self.name.startswith(("timm:", "hf-hub:")):
            raise UsageError(
                f"{option('distill', self.name)}: there is no run and no file of this name. Expected a network of timm "
                f"({listing('encoders')}), NAME@FILE, or the folder of a run."
            )
        return Trained.read(called(self.name))

    seconds: float = 0.0
    """What its looks at the images took."""

    @property
    def fact(self) -> str:
        """What is learned, in words."""
        if self.kept is not None:
            return f"{self.name}, as it was kept at the start"
        run = self.network
        return (
            f"{run.encoder.name}, {run.layers[0]} features of each whole picture at {run.size} px, centred; weights "
            f"{run.weights[:12]}; it has looked at the images in {duration(self.seconds)}, before the training's time"
        )

    def targets(self, source: Source, dim: int) -> Tensor:
        """:func:`distillation_targets` of the images of a source, ``(n, dim)``, on the CPU; rows of those that cannot
        be read are nan. Features are kept in the cache of the network, block by block.

        Raises: RunError if hardly any can be read; UsageError if what was kept is of other images.
        """
        if self.kept is not None:
            if self.kept.shape != (len(source), dim):
                raise UsageError(
                    f"{source.name} has {len(source):,} images now, and {self.name} was asked of {len(self.kept):,}: "
                    f"a training goes on with the images that it began with. Give them, or another {option('out')}."
                )
            return self.kept
        run, _ = self.network.settled(source)
        begun = time.perf_counter()
        features = torch.empty(0, 0)
        for start in range(0, len(source), _BLOCK):
            block = source.subset(range(start, min(start + _BLOCK, len(source))))
            positions, found, _ = run.source_features(block, batch_size=_BATCH, workers=self.workers)
            if len(positions):
                rows = run.select(found, run.layers[0])
                if not len(features):
                    features = torch.full((len(source), rows.shape[1]), float("nan"))
                features[start + torch.from_numpy(positions)] = rows.float()
            if self.progress is not None:
                self.progress(start + len(block), len(source))
        self.seconds = time.perf_counter() - begun
        try:
            return distillation_targets(features, dim)
        except ValueError:
            raise RunError(
                f"{source.name}: fewer than 2 images could be read for the teacher, {self.name}."
            ) from None
