"""A training chooses its number of threads before the first step, keeps it with the run, and leaves the process's."""

import pytest
import torch

from isosphere.threads import number_of_threads
from isosphere.training import _state, read_position


@pytest.fixture
def seen(tiny):
    """A method that notes how many threads there are after each step, and the notes."""
    numbers = []

    class Noting(tiny):
        def after_step(self, progress):
            super().after_step(progress)
            numbers.append(torch.get_num_threads())

    return Noting, numbers


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with number_of_threads():
        torch.set_num_threads(2)
        yield
        assert torch.get_num_threads() == 2


def _busy(monkeypatch, busy: bool):
    fastest = 1 if busy else 2
    monkeypatch.setattr(_state, "time_step", lambda *_: 1.0 if torch.get_num_threads() == fastest else 9.0)


def test_fewer_threads_beside_other_programs_are_kept_by_the_run_that_goes_on(bench, seen, monkeypatch):
    method, numbers = seen
    _busy(monkeypatch, True)
    done = bench.run("run", config=bench.config(epochs=1), method=method())
    assert set(numbers) == {1}
    assert read_position(done.folder.checkpoint).threads == 1
    numbers.clear()
    _busy(monkeypatch, False)
    bench.run("run", config=bench.config(epochs=2), method=method())
    assert set(numbers) == {1}


def test_all_threads_where_nothing_else_runs(bench, seen, monkeypatch):
    method, numbers = seen
    _busy(monkeypatch, False)
    done = bench.run("run", config=bench.config(epochs=1), method=method())
    assert set(numbers) == {2}
    assert read_position(done.folder.checkpoint).threads == 2


@pytest.mark.parametrize("number", [1, 2])
def test_a_number_that_was_given_is_taken(bench, seen, monkeypatch, number):
    method, numbers = seen
    monkeypatch.setattr(_state, "time_step", None)  # nothing is measured
    done = bench.run("run", config=bench.config(epochs=1, threads=number), method=method())
    assert set(numbers) == {number}
    assert read_position(done.folder.checkpoint).threads == 0


def test_a_number_of_the_environment_is_not_touched(bench, seen, monkeypatch):
    method, numbers = seen
    monkeypatch.setattr(_state, "time_step", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    bench.run("run", config=bench.config(epochs=1), method=method())
    assert set(numbers) == {2}


def test_measuring_leaves_the_training_as_it_is(bench, equal_bits, monkeypatch):
    torch.set_num_threads(2)
    measured = bench.run("measured", config=bench.config(epochs=1))
    number = read_position(measured.folder.checkpoint).threads
    given = bench.run("given", config=bench.config(epochs=1, threads=number))
    assert equal_bits(measured.method, given.method)
