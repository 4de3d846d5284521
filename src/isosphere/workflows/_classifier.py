"""A classifier on the features of a run: fitted to a few labels, judged on images it has not seen, kept in a file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere.atomic import make_folder, require_free, write_bytes
from isosphere.deploy import Embedder, Layer, Predictions, embed_readable
from isosphere.errors import RunError, UsageError, option
from isosphere.evaluation import (
    Estimate,
    Probe,
    bootstrap,
    fit_probe,
    held_out_labels,
    mean_recall,
)
from isosphere.runs import RunFolder, pack_tensors, read_tensors
from isosphere.workflows._labelled import LabelledImages, labelled_images
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._run import Run

FORMAT = "isosphere-probe-1"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A probe, the layer and number of passes whose features it is for, and the network (:attr:`Embedder.identity`).

    ``Classifier.read(file).probabilities(run.embed(images, layer=..., passes=...))``.
    """

    probe: Probe
    layer: Layer
    passes: int
    network: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.probe.class_names

    def save(self, file: str | Path) -> None:
        """Write it to a .safetensors file, in one step. Raises: RunError if it cannot be written."""
        about = {
            "format": FORMAT,
            "class_names": json.dumps(self.class_names),
            "layer": self.layer,
            "passes": str(self.passes),
            "network": self.network,
            "penalty": repr(self.probe.penalty),
        }
        make_folder(Path(file).parent)
        write_bytes(Path(file), pack_tensors(self.probe.state, about))

    @classmethod
    def read(cls, file: str | Path) -> "Classifier":
        """That of a file. Raises: UsageError if it is none; RunError if it is damaged."""
        if not Path(file).exists():
            raise UsageError(
                f"there is no classifier at {file}. isosphere probe RUN DATA --labels FILE makes one."
            )
        state, about = read_tensors(Path(file))
        if about.get("format") != FORMAT or set(state) != {"weight", "bias"}:
            raise UsageError(f"{file} is no classifier: expected a file that isosphere probe wrote.")
        names = tuple(json.loads(about["class_names"]))
        probe = Probe(state["weight"], state["bias"], names, float(about["penalty"]))
        layer: Any = about["layer"]
        return cls(probe, layer, int(about["passes"]), about["network"])

    def require(self, run: Embedder, layer: str | None = None) -> None:
        """Raises: UsageError for a run with another network, or another layer or number of passes."""
        if run.identity != self.network:
            raise UsageError(
                f"the classifier was fitted to features of another network than that of {run.folder.path}: give the "
                "run it was made with, or fit it anew by isosphere probe."
            )
        if layer not in (None, self.layer) or run.passes != self.passes:
            raise UsageError(
                f"the classifier is for {option('layer', self.layer)} and {option('passes', self.passes)}: give these."
            )

    def probabilities(self, features: NDArray[np.float32] | Tensor) -> Tensor:
        """Of features of its layer ``(m, p)``: float32 ``(m, classes)``."""
        return self.probe.probabilities(features)

    def predictions(self, features: NDArray[np.float32]) -> Predictions:
        """The most probable classes, and their probabilities."""
        found = self.probabilities(features).max(1)
        return Predictions(found.indices.numpy(), found.values.numpy(), self.class_names)


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """A classifier, and how it does on images it was not fitted to: `accuracy` and `balanced` over the classes, beside
    the share of the `largest` class; the recall of each class with its number of images; what to beware of.
    """

    classifier: Classifier
    accuracy: Estimate
    balanced: Estimate
    largest: float
    recalls: Mapping[str, tuple[Estimate, int]]
    images: int
    groups: int
    remarks: list[str]
    file: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "accuracy": self.accuracy.as_dict(),
            "balanced_accuracy": self.balanced.as_dict(),
            "largest_class": self.largest,
            "recall": {name: {**each.as_dict(), "images": n} for name, (each, n) in self.recalls.items()},
            "images": self.images,
            "groups": self.groups,
            "layer": self.classifier.layer,
            "passes": self.classifier.passes,
            "penalty": self.classifier.probe.penalty,
            "file": None if self.file is None else str(self.file),
            "remarks": self.remarks,
        }


def probe(
    run: Run | str | Path,
    data: Any,
    labels: str | Path | None = None,
    *,
    out: str | Path | None = None,
    layer: Layer | str | None = None,
    passes: int = 1,
    group: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool | Callback = True,
) -> ProbeResult:
    """Fit a linear classifier to labelled images, on frozen features of a run.

    Five folds are asked about by classifiers that were fitted to the others; near-duplicates, and images with one entry
    in the column `group`, are in one fold (:func:`isosphere.evaluation.held_out_labels`). The classifier that is
    returned, and written, is fitted to all of them.

    Args:
        run: a run, its folder, or ``timm:NAME``. data: images. labels, group: as of :func:`labelled_images`.
        out: a .safetensors file; None: ``probe.safetensors`` in the run's folder, where it is one.
        layer: the first that the run has if None. overwrite: replace a file that is there.

    Raises: UsageError for labels that do not do, or a file that exists without `overwrite`; RunError if nothing can
        be read or written.
    """
    run = (run if isinstance(run, Run) else Run.read(run)).looking(passes)
    chosen = run.check_layer(layer)
    target = (
        None
        if out is None and run.network is not None
        else Path(out or run.folder.path / "probe.safetensors")
    )
    if target is not None:
        check_probe_file(target, overwrite=overwrite)
    with progress_bar("Embedding", progress) as bar:
        found = labelled_images(run, data, labels, group=group, seed=seed, progress=bar)
        features, kept = features_of(run, found, chosen, bar)
    y, groups = found.labels[kept], found.groups[kept]
    predicted = held_out_labels(features, y, groups, seed=seed)
    fitted = fit_probe(features, y, found.class_names, groups=groups, seed=seed)
    classifier = Classifier(fitted, chosen, passes, run.identity)
    if target is not None:
        classifier.save(target)
    remarks = [*found.remarks, *_alone(found, kept)]
    if target is None:
        remarks.append(
            f"The classifier was not saved: {run.called} has no folder, give {option('out', 'FILE')}."
        )
    right = (predicted == y).double()
    recalls = {
        found.class_names[k]: (
            bootstrap(right[y == k], groups=groups[y == k], unit_interval=True),
            int((y == k).sum()),
        )
        for k in y.unique().tolist()
    }
    return ProbeResult(
        classifier,
        bootstrap(right, groups=groups, unit_interval=True, seed=seed),
        mean_recall([each for each, _ in recalls.values()]),
        float(torch.bincount(y).max() / len(y)),
        recalls,
        len(y),
        len(groups.unique()),
        remarks,
        target,
    )


def features_of(
    run: Run, found: LabelledImages, layer: Layer, progress: Callback | None
) -> tuple[Tensor, Tensor]:
    """Features of the labelled images that can be read, and which these are."""
    settled, _ = run.settled(found.source)
    made, positions = embed_readable(settled, found.source, layer=layer, progress=progress)
    if not len(made):
        raise RunError(f"none of the {len(found):,} labelled images can be read.")
    return torch.from_numpy(made.values), torch.from_numpy(positions)


def check_probe_file(out: Path, *, overwrite: bool) -> None:
    """Raises: UsageError for a file of another kind, one that a run needs, or that is there."""
    if out.suffix != ".safetensors":
        raise UsageError(f"{option('out', out)}: expected a name that ends in .safetensors.")
    RunFolder.refuse_own(out)
    require_free(out, overwrite=overwrite)


def _alone(found: LabelledImages, kept: Tensor) -> list[str]:
    """Sentences on classes of which all images are in one group: what is fitted without them cannot know them."""
    y, groups = found.labels[kept], found.groups[kept]
    lone = [found.class_names[k] for k in y.unique().tolist() if len(groups[y == k].unique()) < 2]
    if not lone:
        return []
    names = ", ".join(lone[:5]) + ", ..." * (len(lone) > 5)
    return [f"All images of {names} are one group, so that none of them can be told: label more that differ."]
