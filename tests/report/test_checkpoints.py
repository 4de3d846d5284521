"""The table of checkpoints: what each figure chooses, what it costs, and how orders agree."""

import math

from isosphere.evaluation import Estimate
from isosphere.evaluation._results import Figure, TaskResult
from isosphere.report import MEASURES, checkpoint_tables


def result(accuracy, *, data="d"):
    """Every figure of the head rises with the epoch, every figure of the backbone falls."""

    def figure(epoch, layer, metric, value):
        return Figure(f"epoch-{epoch}", layer, metric, Estimate(value, math.nan, math.nan))

    figures = []
    for epoch, right in enumerate(accuracy, 1):
        for name in MEASURES:
            figures += [
                figure(epoch, "head", name, float(epoch)),
                figure(epoch, "backbone", name, -float(epoch)),
            ]
        if right is not None:
            figures.append(figure(epoch, "backbone", "accuracy", right))
    return TaskResult("checkpoints", tuple(figures), {"images": 1000}, data)


def cells(table, name):
    (row,) = (row for row in table.rows if row.name.startswith(name))
    return [cell.value for cell in row.cells]


def test_one_run_says_what_each_figure_chooses_and_what_it_costs():
    *_, table = checkpoint_tables({"a": result([0.3, 0.5, 0.7, 0.8, 0.6])})
    assert table.title == "What each figure chooses among 5 checkpoints"
    assert table.columns == ["chooses epoch", "its k-NN, %", "points lost", "rho [95 %]", "p"]
    assert cells(table, "RankMe, head") == ["5", "60.0", "20.0", "0.70", "0.23"]
    assert cells(table, "uniformity, head")[:4] == ["1", "30.0", "50.0", "-0.70"]  # low is good
    assert cells(table, "uniformity, encoder")[:4] == ["5", "60.0", "20.0", "0.70"]


def test_every_checkpoint_has_its_figures_and_their_places():
    head, backbone, _ = checkpoint_tables({"a": result([0.3, 0.5, 0.5])})
    assert head.title == "Checkpoints, head; 1,000 test images; in brackets the place"
    assert backbone.title.startswith("Checkpoints, encoder")
    assert head.text_rows()[0] == [
        *("epoch", "R@1, %", "RankMe", "LiDAR", "uniformity", "distance", "k-NN, %"),
    ]
    assert head.text_rows()[3] == [
        *("3", "300.0 (1)", "3.000 (1)", "3.000 (1)", "3.000 (3)", "3.000 (3)", "50.0 (1.5)"),
    ]


def test_without_labels_the_choice_alone_is_shown():
    head, _, table = checkpoint_tables({"a": result([None, None])})
    assert head.columns[-1] == "distance"
    assert table.columns == ["chooses epoch"]
    assert "labelled images" in table.note
    assert checkpoint_tables({}) == []


def test_several_runs_are_put_together_where_they_were_evaluated_alike():
    runs = {"a": result([0.1, 0.2, 0.3]), "b": result([0.6, 0.5, 0.4])}
    (table,) = checkpoint_tables(runs)
    assert table.columns == ["a", "b", "all together"]
    assert cells(table, "LiDAR, head") == ["1.00", "-1.00", "0.00"]
    (other,) = checkpoint_tables({**runs, "c": result([0.1, 0.2], data="e")})
    assert other.columns == ["a", "b", "c"]
    assert "not put together" in other.note
    assert checkpoint_tables({"a": result([None, None]), "b": result([None])}) == []
