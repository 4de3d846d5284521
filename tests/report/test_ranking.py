"""Runs ranked without labels."""

import math

from isosphere.evaluation import Estimate
from isosphere.evaluation._results import Figure, TaskResult
from isosphere.report import evaluation_tables, ranking_table
from isosphere.workflows import TASKS

LAYOUTS = {name: task.layouts for name, task in TASKS.items()}


def figure(model, layer, metric, value):
    return Figure(model, layer, metric, Estimate(value, math.nan, math.nan))


def evaluation(quality, *, accuracy=None, data="d", dim=8, **other):
    """A run that is the better the larger its quality, by every figure."""
    measures = {
        "recall@1": quality,
        "rankme": quality,
        "lidar": quality,
        "uniformity": -quality,
        "alignment": -quality,
    } | other
    figures = [figure("trained", layer, m, v) for layer in ("head", "backbone") for m, v in measures.items()]
    figures.append(figure("untrained", "head", "rankme", 0.1))
    protocol = {"images": 50, "batch": 10, "dimensions": {"head": dim}}
    found = {"unlabelled": TaskResult("unlabelled", tuple(figures), protocol, data)}
    if accuracy is not None:
        right = (figure("trained", "backbone", "accuracy", accuracy),)
        found["knn"] = TaskResult("knn", right, {"test_images": 50}, data)
    return found


def cells(row):
    return [(cell.value, cell.interval, cell.best) for cell in row.cells]


def test_places_mean_places_and_agreement_with_accuracy():
    runs = {
        "a": evaluation(0.2, accuracy=0.3),
        "b": evaluation(0.9, accuracy=0.8),
        "c": evaluation(0.5, accuracy=0.9),
    }
    table = ranking_table(runs)
    assert table is not None
    assert table.columns == ["a", "b", "c", "rho with k-NN accuracy"]
    rows = {row.name: cells(row) for row in table.rows}
    assert len(rows) == 11
    assert rows["R@1 of the other view, %, head (high is good)"] == [
        ("20.0", "(3)", False),
        ("90.0", "(1)", True),
        ("50.0", "(2)", False),
        ("0.50", "p = 1", False),
    ]
    assert rows["uniformity, encoder (low is good)"][1] == ("-0.900", "(1)", True)
    assert rows["mean place"] == [
        ("3.0", "(3)", False),
        ("1.0", "(1)", True),
        ("2.0", "(2)", False),
        ("0.50", "p = 1", False),
    ]
    assert "3 runs" in table.note
    agreeing = ranking_table({k: evaluation(q, accuracy=q) for k, q in (("a", 0.1), ("b", 0.2), ("c", 0.3))})
    assert agreeing is not None
    assert cells(agreeing.rows[0])[3][0] == "1.00"


def test_without_accuracy_or_on_other_data_it_says_so():
    good = {"a": evaluation(0.2, accuracy=0.3), "b": evaluation(0.9, accuracy=0.5)}
    two = ranking_table(good)  # always in the same order or the reverse
    assert two is not None
    assert two.columns == ["a", "b"]
    assert "3 runs or more" in two.note
    table = ranking_table({**good, "c": evaluation(0.9)})
    assert table is not None
    assert table.columns == ["a", "b", "c"]
    assert "No accuracy" in table.note
    mixed = ranking_table({**good, "c": evaluation(0.9, accuracy=0.4, data="e", dim=9)})
    assert mixed is not None
    assert mixed.columns == ["a", "b", "c"]
    assert mixed.title == "Without labels"
    assert not any(interval or best for row in mixed.rows for _, interval, best in cells(row))
    assert "mean place" not in [row.name for row in mixed.rows]
    assert "a: data d; b: data d; c: data e. They are not ranked." in mixed.note
    wider = ranking_table({**good, "c": evaluation(0.9, accuracy=0.4, dim=9)})
    assert wider is not None
    assert "dimensions differ" in wider.note


def test_missing_figures_have_no_place():
    table = ranking_table({"a": evaluation(0.2), "b": evaluation(0.9, rankme=math.nan)})
    assert table is not None
    rows = {row.name: cells(row) for row in table.rows}
    assert rows["RankMe, head (high is good)"] == [("0.200", "(1)", True), ("\u2013", "", False)]
    assert rows["mean place"][1][0] == "\u2013"


def test_a_single_run_is_not_ranked_but_shown():
    assert ranking_table({"a": evaluation(0.5), "b": {}}) is None
    (table,) = evaluation_tables({"a": evaluation(0.5)}, LAYOUTS)
    assert table.title == "Without labels [95 %]; 50 test images"
    assert table.columns == ["its head", "trained encoder", "untrained head"]
    assert [cell.value for cell in table.rows[0].cells] == ["50.0", "50.0", "\u2013"]
    assert [cell.value for cell in table.rows[1].cells] == ["0.500", "0.500", "0.100"]
    (ranked,) = evaluation_tables({"a": evaluation(0.5), "b": evaluation(0.6)}, LAYOUTS)
    assert ranked.title == "Ranked without labels"
