"""Tables of results grow: in rows, and in what is measured."""

import csv

import pytest

from experiments.records import PROTOCOL, Table, newest


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


def test_a_row_by_an_older_protocol_is_measured_again_and_kept(tmp_path):
    path = tmp_path / "results.csv"
    Table(path, ("method", "seed"), ("knn",)).append({"method": "a", "seed": 0, "knn": 1.5})
    table = Table(path, ("method", "seed"), ("knn",), judged=True)
    assert {"method": "a", "seed": 0} not in table
    table.append({"method": "a", "seed": 0, "knn": 2.5})
    assert {"method": "a", "seed": 0} in table
    again = Table(path, ("method", "seed"), ("knn",), judged=True)
    assert {"method": "a", "seed": 0} in again
    assert [(row["knn"], row["protocol"]) for row in again] == [("1.5", ""), ("2.5", PROTOCOL)]
    assert [row["knn"] for row in newest(again, ["method"])] == ["2.5"]
