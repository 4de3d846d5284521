"""How far long work is: a bar on a terminal, a line now and then elsewhere."""

import io

import pytest
from rich.console import Console

from isosphere.workflows import _progress as progress
from isosphere.workflows import progress_bar


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def console_of(monkeypatch, **options):
    console = Console(file=io.StringIO(), **options)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return console


def test_elsewhere_a_line_every_half_minute(monkeypatch, clock):
    console = console_of(monkeypatch)
    with progress_bar("Embedding") as move:
        move(200, 1000)  # were there already
        for second in range(1, 81):
            clock[0] += 1
            move(200 + 10 * second, 1000)
    lines = console.file.getvalue().splitlines()
    assert lines == [
        "Embedding: 50%, 50 s left, 10 images/s, 500 of 1,000 images",
        "Embedding: 80%, 20 s left, 10 images/s, 800 of 1,000 images",
    ]


def test_short_work_is_silent_and_so_is_what_was_silenced(monkeypatch, clock):
    console = console_of(monkeypatch)
    with progress_bar("Embedding") as move:
        clock[0] += 20
        move(10, 10)
    with progress_bar("Embedding", False) as move:
        clock[0] += 200
        move(5, 10)
    assert console.file.getvalue() == ""
    seen = []
    with progress_bar("Embedding", lambda done, total: seen.append((done, total))) as move:
        move(5, 10)
    assert seen == [(5, 10)]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_on_a_terminal_time_left_and_speed_are_shown(monkeypatch, clock, width):
    console = console_of(monkeypatch, force_terminal=True, width=width, color_system=None)
    with progress_bar("Computing features") as move:
        for second in range(11):
            clock[0] += 1
            move(1000 * second, 50000)
    text = console.file.getvalue().replace("\r", "\n")
    painted = [line for line in text.split("\n") if "20 %" in line][-1]
    assert "40 s left  1,000 images/s" in painted
    assert ("10,000/50,000" in painted) == (width >= 80)
    assert "…" not in painted
