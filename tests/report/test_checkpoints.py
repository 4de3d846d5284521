"""The table of checkpoints: what each figure chooses, what it costs, and how orders agree."""

from isosphere.evaluation.unlabelled import HIGHER_IS_BETTER
from isosphere.report.checkpoints import checkpoint_table
from isosphere.report.tables import evaluation_tables


def estimate(value):
    return {"value": value, "low": None, "high": None}


def entry(accuracy, *, data="d"):
    """Every figure of the head rises with the epoch, every figure of the backbone falls."""
    found = {"protocol": {"epochs": list(range(1, len(accuracy) + 1))}, "data": data}
    for epoch, right in enumerate(accuracy, 1):
        for name in HIGHER_IS_BETTER:
            found[f"epoch-{epoch}/head/{name}"] = estimate(float(epoch))
            found[f"epoch-{epoch}/backbone/{name}"] = estimate(float(-epoch))
        if right is not None:
            found[f"epoch-{epoch}/knn"] = estimate(right)
    return {"checkpoints": found}


def cells(table, name):
    (row,) = (row for row in table.rows if row.name.startswith(name))
    return [cell.value for cell in row.cells]


def test_one_run_says_what_each_figure_chooses_and_what_it_costs():
    table = checkpoint_table({"a": entry([0.3, 0.5, 0.7, 0.8, 0.6])})
    assert table is not None
    assert table.columns == ["chooses epoch", "its k-NN accuracy, %", "points lost", "\u03c1"]
    assert cells(table, "RankMe, head") == ["5", "60.0", "20.0", "0.70"]
    assert cells(table, "uniformity, head") == ["1", "30.0", "50.0", "-0.70"]  # low is good
    assert cells(table, "uniformity, encoder") == ["5", "60.0", "20.0", "0.70"]
    assert "5 checkpoints, epochs 1 to 5" in table.note
    assert evaluation_tables({"a": entry([0.3, 0.5])}) == []


def test_without_labels_the_choice_alone_is_shown():
    table = checkpoint_table({"a": entry([None, None])})
    assert table is not None
    assert table.columns == ["chooses epoch"]
    assert "labelled images" in table.note
    assert checkpoint_table({"a": {"knn": {}}}) is None


def test_several_runs_are_put_together_where_they_were_judged_alike():
    runs = {"a": entry([0.1, 0.2, 0.3]), "b": entry([0.6, 0.5, 0.4])}
    table = checkpoint_table(runs)
    assert table is not None
    assert table.columns == ["a", "b", "all together"]
    assert cells(table, "LiDAR, head") == ["1.00", "-1.00", "0.00"]
    other = checkpoint_table({**runs, "c": entry([0.1, 0.2], data="e")})
    assert other is not None
    assert other.columns == ["a", "b", "c"]
    assert "not put together" in other.note
    assert checkpoint_table({"a": entry([None, None]), "b": entry([None])}) is None
