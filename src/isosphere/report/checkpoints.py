"""Points of a training in the order of figures that need no labels: which each would choose, and what it would cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from isosphere.evaluation.unlabelled import HIGHER_IS_BETTER, ranks, spearman
from isosphere.report.tables import Cell, Row, Table

__all__ = ["checkpoint_table"]

WORDS = {
    "recall@1": "R@1 of the other view",
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "uniformity": "uniformity",
    "alignment": "squared distance of views",
}
_LAYERS = {"head": "head", "backbone": "encoder"}
_SAME = ("images", "train_images", "batch", "k", "views", "image_size", "division")


def checkpoint_table(evaluations: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """The task ``checkpoints`` of one run (a line a figure: what it chooses, and its correlation with accuracy) or of
    several (correlations within each, and over all checkpoints together). None where no run has been through it.
    """
    entries = {name: e["checkpoints"] for name, e in evaluations.items() if e.get("checkpoints")}
    if not entries:
        return None
    (first, *others) = entries.values()
    if not others:
        return _of_one(first)
    return _of_several(entries)


def _of_one(entry: Mapping[str, Any]) -> Table:
    epochs = list(entry["protocol"]["epochs"])
    accuracy = _column(entry, "knn")
    known = not any(map(math.isnan, accuracy))
    rows = []
    for key, words, higher in _figures():
        values = _column(entry, key)
        places = ranks(values, higher=higher)
        if all(map(math.isnan, places)):
            continue
        best = min((p, i) for i, p in enumerate(places) if not math.isnan(p))[1]
        cells = [Cell(str(epochs[best]))]
        if known:
            lost = max(accuracy) - accuracy[best]
            cells += [Cell(f"{100 * accuracy[best]:.1f}"), Cell(f"{100 * lost:.1f}", "", lost == 0)]
            cells.append(_rho(places, accuracy))
        rows.append(Row(words, cells))
    columns = ["chooses epoch", *(["its k-NN accuracy, %", "points lost", "\u03c1"] if known else [])]
    note = f"{len(epochs)} checkpoints, epochs {epochs[0]} to {epochs[-1]}. {_note(known)}"
    return Table("Checkpoints ranked without labels", "", columns, rows, note)


def _of_several(entries: Mapping[str, Mapping[str, Any]]) -> Table | None:
    known = {n: e for n, e in entries.items() if not any(map(math.isnan, _column(e, "knn")))}
    if not known:
        return None
    same = len({repr([e.get("data"), *(e["protocol"].get(k) for k in _SAME)]) for e in known.values()}) == 1
    pooled = same and len(known) > 1
    rows = []
    for key, words, higher in _figures():
        cells = [
            _rho(ranks(_column(e, key), higher=higher), _column(e, "knn"))
            if name in known
            else Cell("\u2013")
            for name, e in entries.items()
        ]
        if pooled:
            values = [v for e in known.values() for v in _column(e, key)]
            cells.append(
                _rho(ranks(values, higher=higher), [v for e in known.values() for v in _column(e, "knn")])
            )
        rows.append(Row(words, cells))
    columns = [*entries, *(["all together"] if pooled else [])]
    counts = ", ".join(f"{name}: {len(e['protocol']['epochs'])}" for name, e in entries.items())
    apart = "" if pooled else " The runs were not judged on the same images, and are not put together."
    return Table(
        "Checkpoints ranked without labels: \u03c1 with k-NN accuracy",
        "",
        columns,
        rows,
        f"{counts} checkpoints.{apart} {_note(True)}",
    )


def _figures() -> list[tuple[str, str, bool]]:
    return [
        (f"{layer}/{name}", f"{WORDS[name]}, {words} ({'high' if higher else 'low'} is good)", higher)
        for layer, words in _LAYERS.items()
        for name, higher in HIGHER_IS_BETTER.items()
    ]


def _column(entry: Mapping[str, Any], key: str) -> list[float]:
    found = [entry.get(f"epoch-{epoch}/{key}") for epoch in entry["protocol"]["epochs"]]
    values = [e.get("value") if isinstance(e, Mapping) else None for e in found]
    return [float(v) if isinstance(v, (int, float)) else math.nan for v in values]


def _rho(places: Sequence[float], accuracy: Sequence[float]) -> Cell:
    found = spearman([-p for p in places], accuracy)
    if math.isnan(found.value):
        return Cell("\u2013")
    return Cell(f"{found.value + 0.0:.2f}", f"[{found.low:.2f}, {found.high:.2f}]")


def _note(known: bool) -> str:
    if not known:
        return "No accuracy to hold the choice against: evaluate on labelled images."
    return (
        "\u03c1: Spearman's rank correlation of the order by the figure with that by k-NN accuracy of the encoder, and "
        "its 95 % interval for independent pairs; checkpoints of one training are not independent, and a figure that "
        "merely drifts while accuracy rises scores 1."
    )
