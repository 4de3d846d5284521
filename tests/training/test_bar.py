"""The bar: what it always shows, from 60 columns on, and what it leaves out first."""

import io

import pytest
from rich.console import Console

from isosphere.training import Bar, ConsoleReporter, Pace
from isosphere.training._bar import fitted

LINE = "12 min 20 s left  12,345 images/s  epoch 12/100  total 0.4821  invariance 0.2111  uniformity 0.01"


def terminal(width):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def shown(console) -> str:
    """The last line that was painted."""
    text = console.file.getvalue().replace("\r", "\n").replace("\x1b[2K", "").replace("\x1b[?25l", "")
    return [line for line in text.split("\n") if "%" in line][-1].rstrip()


@pytest.mark.parametrize(
    ("width", "ends"),
    [
        (60, "12,345 images/s"),
        (70, "epoch 12/100"),
        (80, "total 0.4821"),
        (100, "invariance 0.2111"),
        (140, "uniformity 0.01"),
    ],
)
def test_time_left_and_speed_are_there_from_60_columns_on(width, ends):
    console = terminal(width)
    bar = Bar(console)
    bar.start()
    bar.show(0.42, LINE)
    bar._progress.refresh()
    line = shown(console)
    bar.stop()
    assert line.startswith(" 42 % ")
    assert "12 min 20 s left  12,345 images/s" in line
    assert line.endswith(ends)
    assert "..." not in line
    assert "…" not in line
    assert len(line) <= width


def test_items_are_left_out_whole():
    assert fitted("aaa  bb  c", 10) == "aaa  bb  c"
    assert fitted("aaa  bb  c", 9) == "aaa  bb"
    assert fitted("aaa  bb  c", 3) == "aaa"
    assert fitted("aaa  bb  c", 2) == "aa"
    assert fitted("aaa", -4) == fitted("", 5) == ""


def test_a_pace_is_that_of_the_last_half_minute():
    pace = Pace()
    assert pace.at(500, 0.0) is None  # were there already
    assert pace.at(600, 1.0) == pytest.approx(100)
    assert pace.at(600, 2.0) == pytest.approx(50)
    for second in range(3, 103):
        speed = pace.at(600 + 10 * second, float(second))
    assert speed == pytest.approx(10)
    assert pace.at(5, 103.0) is None  # another part of the work
    assert pace.at(25, 104.0) == pytest.approx(20)


def test_lines_of_epochs_stay_on_a_terminal():
    console = terminal(80)
    reporter = ConsoleReporter(console)
    reporter.step(0.1, LINE)
    reporter.row("epoch 1/3  total 0.5")
    reporter.row("epoch 2/3  total 0.4")  # within a second
    reporter.row("epoch 3/3  total 0.3")
    reporter.close()
    text = console.file.getvalue()
    assert "epoch 1/3  total 0.5" in text
    assert "epoch 2/3  total 0.4" not in text
    assert "epoch 3/3  total 0.3" in text


def test_within_a_long_epoch_a_log_gets_a_line_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("isosphere.training._reporting.time.perf_counter", lambda: now[0])
    console = Console(file=io.StringIO(), width=80)
    reporter = ConsoleReporter(console)
    for second in range(200):
        now[0] = float(second)
        reporter.step(second / 200, f"{200 - second} s left")
        if second == 90:
            reporter.row("epoch 1/2")
    reporter.close()
    assert console.file.getvalue().splitlines() == ["30%  140 s left", "epoch 1/2", "75%  50 s left"]
