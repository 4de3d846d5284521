"""Tables of a report: figures with intervals, what was run, and the signs of collapse."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.sphere import log_vmf_normalizer, sample_uniform
from isosphere.statistics import covariance_spectrum, effective_rank, mean_cosine
from isosphere.statistics import uniformity as log_potential

__all__ = ["Cell", "Row", "Table", "collapse_tiles", "evaluation_tables", "paired"]

LEAST = 20
"""Images from which these signs say anything."""
PAIRED = 4000
"""Images of which all pairs are looked at: 8 million pairs fix two decimals, and the time grows with the square."""

_TITLES = {
    "knn": "k-nearest-neighbour accuracy, %",
    "linear": "Linear probe, accuracy, %",
    "ridge": "Kernel ridge, accuracy, %",
    "retrieval": "Finding the other view of an image, %",
    "ood": "Out-of-distribution detection, %",
    "geometry": "Geometry of the embeddings",
    "unlabelled": "Without labels",
}
_SHARES = ("knn", "linear", "ridge", "retrieval", "ood")
_PIVOTED = ("ridge", "retrieval", "geometry", "unlabelled")
_WORDS = {
    "trained/backbone": "trained encoder",
    "trained/head": "its head",
    "trained/views": "trained encoder, by its views",
    "trained/whitened": "trained encoder, whitened",
    "untrained/backbone": "untrained encoder",
    "untrained/whitened": "untrained encoder, whitened",
    "untrained/head": "untrained head",
    "pixels": "raw pixels",
    "pca": "PCA-whitened pixels",
    "descriptor": "fixed descriptor",
}
_HIGHER = ("knn", "linear", "ridge", "retrieval", "ood")


@dataclass(frozen=True)
class Cell:
    """A value and its interval as text."""

    value: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    cells: list[Any]


@dataclass(frozen=True)
class Table:
    """A table with a title and a note on how its figures were made."""

    title: str
    first: str
    columns: list[str]
    rows: list[Row]
    note: str = field(default="")


def evaluation_tables(evaluations: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """A table per task of the runs' ``evaluation.json``: one column a run, or for one run a column a metric.

    Of several runs the task ``unlabelled`` is left to :func:`isosphere.report.ranking.ranking_table`, and always
    ``checkpoints`` to :func:`isosphere.report.checkpoints.checkpoint_table`.
    """
    tasks = dict.fromkeys(task for evaluation in evaluations.values() for task in evaluation)
    made = []
    for task in tasks:
        entries = {name: evaluation.get(task, {}) for name, evaluation in evaluations.items()}
        if task == "checkpoints" or (task == "unlabelled" and len(evaluations) > 1):
            continue
        pivot = len(evaluations) == 1 and task in _PIVOTED
        table = _pivoted(task, next(iter(entries.values()))) if pivot else _by_run(task, entries)
        if table.rows:
            made.append(table)
    return made


def _by_run(task: str, entries: Mapping[str, Mapping[str, Any]]) -> Table:
    keys = dict.fromkeys(key for entry in entries.values() for key in entry if _is_estimate(entry[key]))
    rows = []
    for key in keys:
        if len(entries) > 1 and (
            key.endswith("/all") or (task == "geometry" and key.startswith("untrained"))
        ):
            continue
        found = [entry.get(key) for entry in entries.values()]
        values = [_value(estimate) for estimate in found]
        best = max((v for v in values if v is not None), default=None)
        higher = task in _HIGHER and "fpr" not in key  # a false-positive rate is best when low: not marked
        marks = len(entries) > 1 and higher and key.startswith("trained") and len(set(values)) > 1
        cells = [
            _cell(task, e, best=marks and v is not None and v == best)
            for e, v in zip(found, values, strict=True)
        ]
        rows.append(
            Row(_name(f"{key} kernel" if task == "ridge" and key.endswith("/linear") else key), cells)
        )
    columns = list(entries) if len(entries) > 1 else ["accuracy" if task in ("knn", "linear") else "value"]
    return Table(_TITLES.get(task, task), "", columns, rows, _note(entries))


def _pivoted(task: str, entry: Mapping[str, Any]) -> Table:
    """One run: contestants (or measures) down, metrics (or contestants) across."""
    # Of the wider set of candidates one figure says enough.
    kept = [key for key in entry if not key.endswith("/all") or key.endswith("recall@1/all")]
    split = {key: _split(task, key) for key in kept if _is_estimate(entry[key])}
    rows = list(dict.fromkeys(row for row, _ in split.values()))
    columns = list(dict.fromkeys(column for _, column in split.values()))
    at = {place: key for key, place in split.items()}
    lines = [
        Row(
            _name(row), [_cell(task, entry.get(at.get((row, column), "")), measure=row) for column in columns]
        )
        for row in rows
    ]
    return Table(_TITLES.get(task, task), "", [_name(c) for c in columns], lines, _note({"": entry}))


def _split(task: str, key: str) -> tuple[str, str]:
    if task == "geometry":
        who, _, measure = key.partition("/")
        return measure, who
    if task == "unlabelled":
        who, _, measure = key.rpartition("/")
        return measure, who
    if task == "ridge":
        linear = key.endswith("/linear")
        return key.removesuffix("/linear"), "linear kernel" if linear else "exponential kernel"
    parts = key.split("/")
    cut = next(
        (i for i, part in enumerate(parts) if part.startswith("recall@") or part == "map"), len(parts) - 1
    )
    return "/".join(parts[:cut]), "/".join(parts[cut:])


def _name(key: str) -> str:
    for known, words in _WORDS.items():
        if key == known:
            return words
        if key.startswith(f"{known}/"):
            return f"{words}, {_name(key[len(known) + 1 :])}"
    if found := re.fullmatch(r"trained/last(\d+)", key):
        return f"its last {found[1]} class tokens"
    words = key.replace("recall@", "R@").replace("/all", ", both views").replace("_", " ")
    words = re.sub(r"\bzscore/", "z-score, ", words)
    return {"map": "mAP"}.get(words, words.replace("/", ", "))


def _is_estimate(entry: Any) -> bool:
    return isinstance(entry, dict) and {"value", "low", "high"} <= set(entry)


def _value(estimate: Any) -> float | None:
    value = estimate.get("value") if _is_estimate(estimate) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _cell(task: str, estimate: Any, *, best: bool = False, measure: str = "") -> Cell:
    value = _value(estimate)
    if value is None:
        return Cell("\u2013")
    low, high = estimate["low"], estimate["high"]
    share = task in _SHARES or measure == "recall@1"
    scale, digits = (100, 1) if share else (1, _digits(value))
    sure = all(isinstance(bound, (int, float)) for bound in (low, high))
    interval = f"[{scale * low:,.{digits}f}, {scale * high:,.{digits}f}]" if sure else ""
    return Cell(f"{scale * value:,.{digits}f}", interval, best)


def _digits(value: float) -> int:
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3


def _note(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """How the figures were made, in the words of the protocol, where all runs agree or one is alone."""
    said = []
    for name, entry in entries.items():
        protocol = entry.get("protocol", {}) if isinstance(entry, Mapping) else {}
        flat = {**protocol, **protocol.get("targets", {})} if isinstance(protocol, Mapping) else {}
        facts = {
            "data": entry.get("data"),
            "k": flat.get("k"),
            "training images": flat.get("train_images"),
            "test images": flat.get("test_images", flat.get("queries", flat.get("images"))),
            "candidates": flat.get("candidates_per_query"),
            "division": flat.get("division"),
        }
        words = ", ".join(f"{key} {_plain(value)}" for key, value in facts.items() if value is not None)
        said.append((name, words))
    words = dict.fromkeys(words for _, words in said if words)
    return next(iter(words), "") if len(words) <= 1 else "; ".join(f"{n}: {w}" for n, w in said if w)


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def collapse_tiles(head: Tensor, metrics: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Signs of collapse of embeddings ``(n, d)``, each beside its value for as many uniform points."""
    n, d = head.shape
    if n < LEAST:
        return []
    unit = functional.normalize(head.float(), dim=1)
    found = _signs(unit)
    # Chance: 0 for the mean cosine and a closed form for uniformity; ranks and shares from a sample of this size.
    uniform = _signs(sample_uniform(n, d, generator=torch.Generator().manual_seed(0)), uniformity=False)
    uniform["mean_cosine"] = 0.0
    uniform["uniformity"] = -4.0 + float(log_vmf_normalizer(torch.tensor(4.0, dtype=torch.float64), d))
    zero = int((unit.norm(dim=1) < 0.5).sum())
    most = min(n - 1, d)

    def tile(key: str, words: str, state: str = "", digits: int = 2) -> dict[str, str]:
        value, null = found[key], uniform[key]
        return {
            "value": _fixed(value, digits),
            "words": f"{words}; uniform {_fixed(null, digits)}",
            "state": state,
        }

    cosine, rank = found["mean_cosine"], found["effective_rank"]
    state = "bad" if cosine > 0.95 else "fine" if cosine < 0.5 else ""
    made = [
        tile("mean_cosine", "mean cosine of different images (1: collapse)", state, 3),
        tile("effective_rank", f"effective rank, at most {most}", "bad" if rank < 2 else "", 1),
        tile("top_eigenvalue_share", "share of the largest direction", digits=3),
        tile("uniformity", "uniformity (0: collapse)"),
    ]
    aligned = next((row["alignment"] for row in reversed(metrics) if row.get("alignment")), "")
    if aligned:
        value = float(aligned)
        made.append(
            {
                "value": f"{value:.2f}",
                "words": "alignment in training (1: views coincide, 0: views are unrelated)",
                "state": "bad" if value < 0.05 else "",
            }
        )
    if zero:
        made.append({"value": f"{zero:,}", "words": "embeddings that are zero", "state": "bad"})
    return made


def paired(z: Tensor) -> Tensor:
    """The rows of which all pairs are looked at: all, or PAIRED of them drawn with a fixed seed."""
    if len(z) <= PAIRED:
        return z
    chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[:PAIRED]
    return z[chosen.to(z.device)]


def _signs(unit: Tensor, *, uniformity: bool = True) -> dict[str, float]:
    spectrum = covariance_spectrum(unit)
    rank = float(effective_rank(unit))
    found = {
        "mean_cosine": float(mean_cosine(unit)),
        "effective_rank": rank,
        # Of a constant sample what is left of the spectrum is rounding.
        "top_eigenvalue_share": float(spectrum[0] / spectrum.sum()) if rank > 0 else math.nan,
    }
    return found | ({"uniformity": float(log_potential(paired(unit)))} if uniformity else {})


def _fixed(value: float, digits: int) -> str:
    """So many decimals, and no minus before zeros."""
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else "\u2013"
