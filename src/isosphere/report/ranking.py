"""Several runs in the order of figures that need no labels, and how far accuracy follows that order."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from isosphere.evaluation.unlabelled import HIGHER_IS_BETTER, Correlation, ranks, spearman
from isosphere.report.tables import Cell, Row, Table

__all__ = ["ranking_table"]

LEAST = 3
"""Runs from which an order says anything: two are always in the same order or the reverse."""

_LAYERS = {"head": "head", "backbone": "encoder"}
_WORDS = {
    "recall@1": "R@1 of the other view, %",
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "uniformity": "uniformity",
    "alignment": "squared distance of views",
}
_ACCURACY = {"linear": "linear-probe", "knn": "k-NN", "ridge": "kernel-ridge"}
"""Tasks whose accuracy of the encoder the order is held against: the first that all runs have."""
_SAME = ("images", "batch", "view_seed", "views", "image_size", "division")


def ranking_table(evaluations: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Runs side by side by the task ``unlabelled``: each figure with its place, and mean places.

    A last column holds Spearman's correlation of the places with those by accuracy, where three runs or more
    have all been evaluated with labels on the same data by the same task. None unless at least two runs have
    been through the task.
    """
    entries = {name: e["unlabelled"] for name, e in evaluations.items() if e.get("unlabelled")}
    if len(entries) < 2:
        return None
    accuracy, against = _accuracies({name: evaluations[name] for name in entries})
    rows, places = [], []
    for layer, words in _LAYERS.items():
        for measure, higher in HIGHER_IS_BETTER.items():
            values = [_value(entry.get(f"trained/{layer}/{measure}")) for entry in entries.values()]
            if all(map(math.isnan, values)):
                continue
            place = ranks(values, higher=higher)
            places.append(place)
            cells = [_cell(measure, v, p) for v, p in zip(values, place, strict=True)]
            label = f"{_WORDS[measure]}, {words} ({'high' if higher else 'low'} is good)"
            rows.append(Row(label, [*cells, *_agreement(place, accuracy)]))
    mean = [float(np.mean(column)) for column in zip(*places, strict=True)]
    overall = ranks(mean, higher=False)
    cells = [
        Cell("\u2013") if math.isnan(m) else Cell(f"{m:.1f}", f"({_place(p)})", p == 1)
        for m, p in zip(mean, overall, strict=True)
    ]
    rows.append(Row("mean place", [*cells, *_agreement(overall, accuracy)]))
    columns = [*entries, *([f"\u03c1 with {against} accuracy"] if accuracy else [])]
    return Table("Ranked without labels", "", columns, rows, _note(entries, accuracy, against))


def _agreement(place: list[float], accuracy: list[float]) -> list[Cell]:
    """Correlation of being in front by this figure with being accurate."""
    if not accuracy:
        return []
    found: Correlation = spearman([-p for p in place], accuracy)
    if math.isnan(found.value):
        return [Cell("\u2013")]
    return [Cell(f"{found.value + 0.0:.2f}", f"p = {found.pvalue:.2g}")]


def _accuracies(evaluations: Mapping[str, Mapping[str, Any]]) -> tuple[list[float], str]:
    if len(evaluations) < LEAST:
        return [], ""
    for task, words in _ACCURACY.items():
        entries = [e.get(task) or {} for e in evaluations.values()]
        values = [_value(entry.get("trained/backbone")) for entry in entries]
        same = len({_facts(entry, ("train_images", "test_images", "division")) for entry in entries}) == 1
        if same and not any(map(math.isnan, values)):
            return values, words
    return [], ""


def _facts(entry: Mapping[str, Any], names: tuple[str, ...]) -> str:
    protocol = entry.get("protocol") or {}
    return repr([entry.get("data"), *(protocol.get(name) for name in names)])


def _note(entries: Mapping[str, Mapping[str, Any]], accuracy: list[float], against: str) -> str:
    said = ["In brackets the place among these runs, 1 being the best by that figure."]
    if len({_facts(entry, _SAME) for entry in entries.values()}) > 1:
        said.append(
            "The runs were not measured on the same images, views or batches: their places mean little."
        )
    if len({str((entry.get("protocol") or {}).get("dimensions")) for entry in entries.values()}) > 1:
        said.append("Their dimensions differ, on which RankMe and LiDAR depend.")
    if accuracy:
        said.append(
            f"\u03c1: Spearman's rank correlation with the {against} accuracy of the encoder over the "
            f"{len(accuracy)} runs, 1 if the order is the same, -1 if it is reversed; p: the share of all "
            "orders that agree or disagree as much."
        )
    else:
        said.append(
            f"No accuracy to hold it against: evaluate {LEAST} runs or more, all on the same labelled images."
        )
    return " ".join(said)


def _value(estimate: Any) -> float:
    value = estimate.get("value") if isinstance(estimate, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _cell(measure: str, value: float, place: float) -> Cell:
    if math.isnan(value):
        return Cell("\u2013")
    text = (
        f"{100 * value:.1f}" if measure == "recall@1" else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
    )
    return Cell(text, f"({_place(place)})", place == 1)


def _place(place: float) -> str:
    return f"{place:.0f}" if place == int(place) else f"{place:.1f}"
