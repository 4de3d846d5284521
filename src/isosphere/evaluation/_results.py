"""What an evaluation found, as records: written to a run's ``evaluation.json`` and read back, older ones too."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from isosphere.errors import RunError
from isosphere.evaluation._intervals import Estimate
from isosphere.runs import RunFolder

_FIELDS = ("model", "layer", "metric", "subset", "variant")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: of which model and layer, by which metric, on which images.

    Args:
        model: ``trained``; ``untrained`` or ``initial``, the same network before training; ``epoch-10``; or a
            baseline (``pixels``, ``pca``, ``descriptor``).
        layer: ``backbone``, ``head``, ``wccn``, ``whitened``, ``last4``, ``method``; empty for a baseline.
        metric: ``accuracy``, ``recall@1``, ``auroc``, ``uniformity``, ...
        estimate: value and 95 % interval.
        subset: the images, where a task looks at several sets: the OOD set's name; empty for the test images.
        variant: how it was measured, where a task measures in several ways: the kernel of a ridge regression, the
            candidates of a retrieval, the OOD score, the discrepancy of a z-score.
    """

    model: str
    layer: str
    metric: str
    estimate: Estimate
    subset: str = ""
    variant: str = ""

    @property
    def value(self) -> float:
        """The estimate's value."""
        return self.estimate.value

    def __str__(self) -> str:
        named = ", ".join(f"{name}={value}" for name in _FIELDS if (value := getattr(self, name)))
        low, high = self.estimate.low, self.estimate.high
        return f"{named}: {self.value:.4g}" + (f" [{low:.4g}, {high:.4g}]" if math.isfinite(low) else "")

    def as_dict(self) -> dict[str, Any]:
        """An entry of ``evaluation.json``; what is not a number is null."""
        named = {name: getattr(self, name) for name in _FIELDS}
        numbers = {k: v if math.isfinite(v) else None for k, v in self.estimate.as_dict().items()}
        return {k: v for k, v in named.items() if v} | numbers

    @classmethod
    def of_dict(cls, entry: Mapping[str, Any]) -> "Figure":
        """The figure that :meth:`as_dict` wrote."""
        named = {name: str(entry.get(name, "")) for name in _FIELDS}
        return cls(estimate=_estimate(entry), **named)


@dataclass(frozen=True, repr=False)
class TaskResult:
    """What one task of an evaluation found.

    Args:
        protocol: how the figures were made, as plain values.
        data: the images as they were named.
        weights: digest of the trained weights; empty in an older file.
        images: digest of the images and labels of each part that was looked at, by its name (``train``, ``test``, an
            OOD set); nothing in an older file.
        gain: difference of the trained encoder to the best of the others in what the headline says, with its interval,
            and `rival`, who that is; None for a task without a winner. nearest: the same of another output of this
            network that is better than the rival, in words.
        headline: the first figure in a sentence. remark: says that the encoder is no good, and takes the place of the
            closing sentence. hint: what else can be done with it.
    """

    task: str
    figures: tuple[Figure, ...]
    protocol: dict[str, Any]
    data: str = ""
    weights: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    gain: Estimate | None = None
    rival: str = ""
    nearest: str = ""
    headline: str = ""
    remark: str = ""
    hint: str = ""

    def find(self, **wanted: str) -> list[Figure]:
        """The figures whose fields are these: ``find(model="trained", metric="accuracy")``."""
        if unknown := set(wanted) - set(_FIELDS):
            raise TypeError(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(_FIELDS)}")
        return [f for f in self.figures if all(getattr(f, name) == value for name, value in wanted.items())]

    def one(self, **wanted: str) -> Figure:
        """The only figure whose fields are these. Where several are, and no metric or subset is named, it is of those
        that the task begins with, such as accuracy.

        Raises: KeyError if there is none, or more than one.
        """
        found = self.find(**wanted)
        for name in {"metric", "subset"} - set(wanted):
            if len(found) > 1:
                found = [f for f in found if getattr(f, name) == getattr(self.figures[0], name)] or found
        if len(found) != 1:
            among = "\n".join(map(str, found or self.figures))
            raise KeyError(
                f"{self.task}: got {len(found)} figures of {wanted}, expected one. Among:\n{among}"
            )
        return found[0]

    def __repr__(self) -> str:
        figures = "".join(f"\n  {figure}" for figure in self.figures)
        return f"TaskResult({self.task}, {len(self.figures)} figures){figures}"

    def as_dict(self) -> dict[str, Any]:
        """The task's entry in ``evaluation.json``."""
        return {
            "figures": [figure.as_dict() for figure in self.figures],
            "protocol": self.protocol,
            "data": self.data,
            "weights": self.weights,
            "images": dict(self.images),
        }


def read_results(folder: RunFolder) -> dict[str, TaskResult]:
    """The tasks that a run has been through, by name; also those that an older version wrote.

    Raises: RunError if the file is damaged, or of a version that this one does not know.
    """
    found = folder.read_evaluation()
    try:
        return {task: _result(task, entry) for task, entry in found.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder.evaluation} is damaged ({error!r}): remove it and evaluate again."
        ) from error


def update_results(folder: RunFolder, results: Iterable[TaskResult]) -> None:
    """Replace these tasks in the run's ``evaluation.json`` and keep the others."""
    made = {result.task: result.as_dict() for result in results}
    json.dumps(made, allow_nan=False)  # refused before the file is touched
    folder.update_evaluation(made)


def _result(task: str, entry: Mapping[str, Any]) -> TaskResult:
    if "figures" in entry:
        figures = tuple(Figure.of_dict(each) for each in entry["figures"])
    else:
        estimates = {k: v for k, v in entry.items() if isinstance(v, Mapping) and {"value", "low"} <= set(v)}
        if not estimates:
            raise ValueError(f"{task} has no figures")
        figures = tuple(_older(task, key, _estimate(each)) for key, each in estimates.items())
    facts: Mapping[str, Any] = entry.get("protocol", {})
    protocol = {_OLDER_FACTS.get(name, name): fact for name, fact in facts.items()}
    if task == "geometry" and {"images", "dimension"} <= set(protocol):
        protocol.setdefault("most", min(protocol["images"] - 1, protocol["dimension"]))
    data, weights = (str(entry.get(name, "")) for name in ("data", "weights"))
    images = {part: str(digest) for part, digest in entry.get("images", {}).items()}
    return TaskResult(task, figures, protocol, data, weights, images)


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    return Estimate(*(math.nan if entry[k] is None else float(entry[k]) for k in ("value", "low", "high")))


_OLDER_LAYERS = {"views": "wccn"}
_OLDER_FACTS = {"division": "split"}


def _older(task: str, key: str, estimate: Estimate) -> Figure:
    """A figure that was kept under a path, ``trained/backbone/recall@1/all``, as versions before records did."""
    parts = key.split("/")
    model, rest = parts[0], parts[1:]
    if task == "geometry":  # model/metric[/discrepancy]
        return Figure(model, "head", rest[0], estimate, variant="/".join(rest[1:]))
    if task == "ood":  # model/layer/set/score/metric, and a set's name may hold a slash
        *_, score, metric = rest
        return Figure(
            model, _OLDER_LAYERS.get(rest[0], rest[0]), metric, estimate, "/".join(rest[1:-2]), score
        )
    if task == "checkpoints" and rest == ["knn"]:
        return Figure(model, "backbone", "accuracy", estimate)
    if task == "checkpoints" and model == "rho":
        return Figure("", rest[0], "spearman", estimate, variant=rest[1])
    layer = ""
    if rest and re.fullmatch(r"backbone|head|views|whitened|last\d+", rest[0]):
        layer, rest = _OLDER_LAYERS.get(rest[0], rest[0]), rest[1:]
    if task in ("knn", "linear"):
        return Figure(model, layer, "accuracy", estimate)
    if task == "ridge":
        return Figure(model, layer, "accuracy", estimate, variant="linear" if rest else "exponential")
    if task == "retrieval" and rest[0] == "class":
        return Figure(model, layer, rest[1], estimate, variant="class")
    if task == "retrieval":
        return Figure(model, layer, rest[0], estimate, variant=rest[1] if len(rest) > 1 else "targets")
    return Figure(model, layer, "/".join(rest), estimate)
