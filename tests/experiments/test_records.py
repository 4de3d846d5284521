"""Tables of results grow: in rows, and in what is measured."""

import csv

import pytest

from experiments.records import Table


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_of_fewer_columns_keeps_its_rows(tmp_path):
    path = tmp_path / "results.csv"
    Table(path, ("method", "seed"), ("knn",)).append({"method": "a", "seed": 0, "knn": 1.5})
    grown = Table(path, ("method", "seed"), ("knn", "linear"))
    assert {"method": "a", "seed": 0} in grown
    grown.append({"method": "a", "seed": 1, "knn": 2.5, "linear": 3.5})
    first, second = rows(path)
    assert (first["knn"], first["linear"]) == ("1.5", "")
    assert (second["knn"], second["linear"]) == ("2.5", "3.5")
    assert first["commit"] == second["commit"]
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_a_column_that_the_table_does_not_have_is_refused(tmp_path):
    table = Table(tmp_path / "results.csv", ("seed",), ("knn",))
    with pytest.raises(KeyError, match="no column"):
        table.append({"seed": 0, "accuracy": 1.0})
    assert not table.path.exists()
