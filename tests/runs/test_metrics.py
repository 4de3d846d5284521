"""metrics.csv: appended, widened, cut back, read while it is being written."""

from isosphere.runs import MetricsFile, read_metrics


def test_rows_come_back_and_a_late_column_is_empty_above(tmp_path):
    path = tmp_path / "metrics.csv"
    metrics = MetricsFile(path)
    metrics.append({"epoch": 0, "step": 5, "total": 0.123456789})
    metrics.append({"epoch": 1, "step": 10, "total": 1e-12, "cosine": 0.5})
    metrics.append({"epoch": 1, "step": 15, "cosine": 0.25})
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == ["5", "10", "15"]
    assert rows[0] == {"epoch": "0", "step": "5", "total": "0.1234568", "cosine": ""}
    assert rows[2]["total"] == ""
    assert float(rows[1]["total"]) == 1e-12


def test_another_appender_goes_on_with_the_same_columns(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsFile(path).append({"step": 1, "total": 1.0})
    MetricsFile(path).append({"total": 2.0, "step": 2})
    assert path.read_text() == "step,total\n1,1\n2,2\n"


def test_rewind_drops_later_rows_only(tmp_path):
    path = tmp_path / "metrics.csv"
    metrics = MetricsFile(path)
    for step in (1, 2, 3, 4):
        metrics.append({"step": step})
    metrics.rewind(2)
    metrics.append({"step": 3})
    assert [row["step"] for row in read_metrics(path)] == ["1", "2", "3"]
    metrics.rewind(0)
    assert read_metrics(path) == []
    metrics.append({"step": 1, "other": 2.0})
    assert path.read_text() == "step,other\n1,2\n"


def test_a_line_cut_short_by_a_kill_is_not_read(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,total\n1,0.5\n2,0.4\n3,0.")
    assert [row["step"] for row in read_metrics(path)] == ["1", "2"]
    metrics = MetricsFile(path)
    metrics.rewind(2)
    metrics.append({"step": 3, "total": 0.3})
    assert path.read_text() == "step,total\n1,0.5\n2,0.4\n3,0.3\n"


def test_no_file_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == []


def test_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,loss\n1,0.5\n\xff\xfe\x00\n3,0.25\n")
    assert [row["step"] for row in read_metrics(path)] == ["1", "3"]
    path.write_bytes(b"\xff\xfe\x00\x01\n\xff\n")
    MetricsFile(path).rewind(5)
