"""Points of a training in the order of figures that need no labels: which each would choose, and what it would cost."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from isosphere.evaluation import HIGHER_IS_BETTER, Correlation, TaskResult, ranks, spearman
from isosphere.report._ranking import LAYERS, MEASURES, measure_words, placed
from isosphere.report._tables import ABSENT, Cell, Row, Table, number

_HEADINGS = {"recall@1": "R@1, %", "alignment": "distance"}
_SAME = ("images", "train_images", "batch", "k", "views", "image_size", "split")
_RHO = (
    "rho: Spearman's rank correlation of the order by the figure with that by k-NN accuracy of the encoder, and its "
    "95 % interval for independent pairs; checkpoints of one training are not independent, and a figure that merely "
    "drifts while accuracy rises scores 1."
)


@dataclass(frozen=True)
class _Checkpoints:
    """The figures of one training's checkpoints by epoch; nan where one is not known."""

    result: TaskResult

    @cached_property
    def epochs(self) -> list[int]:
        found = [re.fullmatch(r"epoch-(\d+)", figure.model) for figure in self.result.figures]
        return sorted({int(match[1]) for match in found if match})

    @cached_property
    def accuracy(self) -> list[float]:
        return self.values("backbone", "accuracy")

    @property
    def labelled(self) -> bool:
        return not any(map(math.isnan, self.accuracy))

    def values(self, layer: str, metric: str) -> list[float]:
        at = {f.model: f.value for f in self.result.find(layer=layer, metric=metric)}
        return [at.get(f"epoch-{epoch}", math.nan) for epoch in self.epochs]

    def places(self, layer: str, measure: str) -> list[float]:
        return ranks(self.values(layer, measure), higher=HIGHER_IS_BETTER[measure])


def checkpoint_tables(results: Mapping[str, TaskResult]) -> list[Table]:
    """The task ``checkpoints`` of one run (for each layer the figures of all epochs, then a line a figure: what it
    chooses, and its correlation with accuracy) or of several (correlations within each, and over all checkpoints
    together).
    """
    found = {name: _Checkpoints(result) for name, result in results.items() if result.figures}
    if len(found) != 1:
        return _of_several(found)
    (one,) = found.values()
    return [*(_figures(one, layer) for layer in LAYERS), _choices(one)]


def _figures(found: _Checkpoints, layer: str) -> Table:
    """A line a checkpoint, every value with its place."""
    columns = {measure: (found.values(layer, measure), found.places(layer, measure)) for measure in MEASURES}
    words = [_HEADINGS.get(measure, MEASURES[measure]) for measure in columns]
    if found.labelled:
        columns["accuracy"] = found.accuracy, ranks(found.accuracy)
        words.append("k-NN, %")
    rows = []
    for i, epoch in enumerate(found.epochs):
        cells = [
            placed(number(values[i], percent=name in ("recall@1", "accuracy")), places[i])
            for name, (values, places) in columns.items()
        ]
        rows.append(Row(str(epoch), cells))
    images = found.result.protocol.get("images")
    count = f"; {images:,} test images" if isinstance(images, int) else ""
    return Table(f"Checkpoints, {LAYERS[layer]}{count}; in brackets the place", "epoch", words, rows)


def _choices(found: _Checkpoints) -> Table:
    epochs, accuracy, known = found.epochs, found.accuracy, found.labelled
    rows = []
    for layer, measure in _keys():
        places = found.places(layer, measure)
        if all(map(math.isnan, places)):
            continue
        best = min((p, i) for i, p in enumerate(places) if not math.isnan(p))[1]
        cells = [Cell(str(epochs[best]))]
        if known:
            lost = max(accuracy) - accuracy[best]
            rho = spearman([-p for p in places], accuracy)
            cells += [
                Cell(number(accuracy[best], percent=True)),
                Cell(number(lost, percent=True), "", lost == 0),
            ]
            cells += [_rho(rho), Cell(ABSENT if math.isnan(rho.pvalue) else f"{rho.pvalue:.2g}")]
        rows.append(Row(measure_words(measure, layer), cells))
    columns = ["chooses epoch", *(["its k-NN, %", "points lost", "rho [95 %]", "p"] if known else [])]
    note = _RHO if known else "No accuracy to hold the choice against: evaluate on labelled images."
    title = f"What each figure chooses among {len(epochs)} checkpoints"
    return Table(title, "figure", columns, rows, note)


def _of_several(found: Mapping[str, _Checkpoints]) -> list[Table]:
    known = {name: c for name, c in found.items() if c.labelled}
    if not known:
        return []
    facts = {repr([c.result.data, *(c.result.protocol.get(k) for k in _SAME)]) for c in known.values()}
    pooled = len(facts) == 1 and len(known) > 1
    accuracy = [a for c in known.values() for a in c.accuracy]
    rows = []
    for layer, measure in _keys():
        cells = [
            _rho(spearman([-p for p in c.places(layer, measure)], c.accuracy)) if c.labelled else Cell(ABSENT)
            for c in found.values()
        ]
        if pooled:
            values = [v for c in known.values() for v in c.values(layer, measure)]
            places = ranks(values, higher=HIGHER_IS_BETTER[measure])
            cells.append(_rho(spearman([-p for p in places], accuracy)))
        rows.append(Row(measure_words(measure, layer), cells))
    columns = [*found, *(["all together"] if pooled else [])]
    counts = ", ".join(f"{name}: {len(c.epochs)}" for name, c in found.items())
    apart = "" if pooled else " The runs were not evaluated on the same images, and are not put together."
    title = "Checkpoints ranked without labels: rho with k-NN accuracy"
    return [Table(title, "figure", columns, rows, f"{counts} checkpoints.{apart} {_RHO}")]


def _keys() -> Sequence[tuple[str, str]]:
    return [(layer, measure) for layer in LAYERS for measure in MEASURES]


def _rho(found: Correlation) -> Cell:
    if math.isnan(found.value):
        return Cell(ABSENT)
    return Cell(f"{found.value + 0.0:.2f}", f"[{found.low:.2f}, {found.high:.2f}]")
