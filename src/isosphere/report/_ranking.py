"""Several runs in the order of figures that need no labels, and how far accuracy follows that order."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from isosphere.evaluation import HIGHER_IS_BETTER, TaskResult, ranks, spearman
from isosphere.report._conditions import conditions, conditions_note, differing
from isosphere.report._tables import ABSENT, Cell, Row, Table, number

MEASURES = {
    "recall@1": "R@1 of the other view",
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "uniformity": "uniformity",
    "alignment": "squared distance of views",
}
"""The measures of :func:`isosphere.evaluation.unlabelled` in words; more of them is better or worse by
`HIGHER_IS_BETTER`.
"""
LAYERS = {"head": "head", "backbone": "encoder"}
LEAST = 3
"""Runs from which an order says anything: two are always in the same order or the reverse."""

_ACCURACY = {"linear": "linear-probe", "knn": "k-NN", "ridge": "kernel-ridge"}
"""Tasks whose accuracy of the encoder the order is held against: the first that all runs have."""
_SAME = ("batch", "view_seed", "views", "image_size")


def measure_words(measure: str, layer: str = "") -> str:
    """A measure in words, with its unit, the layer and what is good: ``RankMe, head (high is good)``."""
    parts = [MEASURES[measure], "%" if measure == "recall@1" else "", LAYERS.get(layer, layer)]
    return f"{', '.join(filter(None, parts))} ({'high' if HIGHER_IS_BETTER[measure] else 'low'} is good)"


def placed(text: str, place: float) -> Cell:
    """A value with its place in brackets; what has no place (nan) is not known."""
    return Cell(ABSENT) if math.isnan(place) else Cell(text, f"({place:g})", place == 1)


def ranking_table(runs: Mapping[str, Mapping[str, TaskResult]]) -> Table | None:
    """Runs side by side by the task ``unlabelled``: each figure with its place, and mean places.

    `runs`: the results of each run's tasks by name. A last column holds Spearman's correlation of the places with those
    by accuracy, where three runs or more have all been evaluated with labels on the same data by the same task. Runs
    that were not evaluated on the same images have no places. None unless at least two runs have been through the task.
    """
    results = {name: found["unlabelled"] for name, found in runs.items() if "unlabelled" in found}
    if len(results) < 2:
        return None
    evaluated = {name: conditions(result) for name, result in results.items()}
    if differing(evaluated.values()):
        rows = [
            Row(words, [_shown(measure, v) for v in values]) for measure, words, values in _measured(results)
        ]
        return Table(
            "Without labels", "", list(results), rows, f"{conditions_note(evaluated)}. They are not ranked."
        )
    accuracy, against = _accuracies([runs[name] for name in results])
    rows, places = [], []
    for measure, words, values in _measured(results):
        place = ranks(values, higher=HIGHER_IS_BETTER[measure])
        places.append(place)
        cells = [placed(_text(measure, v), p) for v, p in zip(values, place, strict=True)]
        rows.append(Row(words, [*cells, *_agreement(place, accuracy)]))
    mean = [float(np.mean(column)) for column in zip(*places, strict=True)]
    overall = ranks(mean, higher=False)
    cells = [placed(f"{m:.1f}", p) for m, p in zip(mean, overall, strict=True)]
    rows.append(Row("mean place", [*cells, *_agreement(overall, accuracy)]))
    columns = [*results, *([f"rho with {against} accuracy"] if accuracy else [])]
    return Table("Ranked without labels", "", columns, rows, _note(results, accuracy, against))


def _measured(results: Mapping[str, TaskResult]) -> Iterator[tuple[str, str, list[float]]]:
    """Every measure of a layer that some run has: its name, its words, and a value a run."""
    for layer in LAYERS:
        for measure in HIGHER_IS_BETTER:
            values = [_value(r, layer=layer, metric=measure) for r in results.values()]
            if not all(map(math.isnan, values)):
                yield measure, measure_words(measure, layer), values


def _shown(measure: str, value: float) -> Cell:
    return Cell(ABSENT if math.isnan(value) else _text(measure, value))


def _text(measure: str, value: float) -> str:
    return number(value, percent=measure == "recall@1")


def _agreement(place: list[float], accuracy: list[float]) -> list[Cell]:
    """Correlation of being in front by this figure with being accurate."""
    if not accuracy:
        return []
    found = spearman([-p for p in place], accuracy)
    if math.isnan(found.value):
        return [Cell(ABSENT)]
    return [Cell(f"{found.value + 0.0:.2f}", f"p = {found.pvalue:.2g}")]


def _accuracies(runs: list[Mapping[str, TaskResult]]) -> tuple[list[float], str]:
    if len(runs) < LEAST:
        return [], ""
    for task, words in _ACCURACY.items():
        results = [found[task] for found in runs if task in found]
        values = [_value(r, layer="backbone", metric="accuracy") for r in results]
        if len(values) < len(runs) or any(map(math.isnan, values)):
            continue
        if len({_facts(r, ("train_images", "test_images", "split")) for r in results}) == 1:
            return values, words
    return [], ""


def _value(result: TaskResult, **wanted: str) -> float:
    """Of the trained model; the first kernel of a ridge regression is its own."""
    return next((f.value for f in result.find(model="trained", **wanted)), math.nan)


def _facts(result: TaskResult, names: tuple[str, ...]) -> str:
    return repr([result.data, *(result.protocol.get(name) for name in names)])


def _note(results: Mapping[str, TaskResult], accuracy: list[float], against: str) -> str:
    def different(facts: Any) -> bool:
        return len({facts(result) for result in results.values()}) > 1

    said = ["In brackets the place among these runs, 1 being the best by that figure."]
    if different(lambda r: _facts(r, _SAME)):
        said.append("The runs were not measured on the same views or batches: their places mean little.")
    if different(lambda r: str(r.protocol.get("dimensions"))):
        said.append("Their dimensions differ, on which RankMe and LiDAR depend.")
    if accuracy:
        said.append(
            f"rho: Spearman's rank correlation with the {against} accuracy of the encoder over the "
            f"{len(accuracy)} runs, 1 if the order is the same, -1 if it is reversed; p: the share of all "
            "orders that agree or disagree as much."
        )
    else:
        said.append(
            f"No accuracy to hold it against: evaluate {LEAST} runs or more, all on the same labelled images."
        )
    return " ".join(said)
