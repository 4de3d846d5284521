"""Threads of the CPU: fewer only where that is clearly faster, again where the machine has changed, and put back."""

import pytest
import torch

from isosphere import threads
from isosphere.threads import ThreadChoice, choose, number_of_threads, settle_threads, time_threads, watched


@pytest.fixture(autouse=True)
def _put_back(monkeypatch):
    monkeypatch.setattr(threads, "_most", None)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with number_of_threads():
        yield


def machine(**seconds: float):
    """Work that takes so long by the number of threads: ``machine(_4=1.0)``."""
    return lambda: seconds[f"_{torch.get_num_threads()}"]


QUIET, BUSY = machine(_1=2.0, _2=1.1, _4=0.6), machine(_1=2.5, _2=4.0, _4=30.0)


def test_fewer_threads_are_taken_only_where_they_are_clearly_faster():
    assert choose({4: 1.0, 2: 1.2, 1: 2.0}) == 4
    assert choose({4: 1.1, 2: 1.0, 1: 1.0}) == 4
    assert choose({4: 1.2, 2: 1.0, 1: 1.1}) == 2
    assert choose({1: 1.0}) == 1


def test_numbers_are_timed_in_turns_and_put_back():
    torch.set_num_threads(3)
    seen = []

    def seconds() -> float:
        seen.append(torch.get_num_threads())
        return 1.0 / seen[-1]

    taken = time_threads(seconds, 4, rounds=2)
    assert seen == [4, 2, 1] * 3
    assert taken == {4: 0.5, 2: 1.0, 1: 2.0}
    assert torch.get_num_threads() == 3


def test_measured_at_the_beginning_and_again_where_steps_take_another_time(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.0)
    choice = ThreadChoice(4)
    assert choice.settle(QUIET) == ""
    assert (choice.number, torch.get_num_threads()) == (4, 4)
    for _ in range(2 * threads.WATCHED):
        choice.note(0.6)
        assert not choice.is_due
    for _ in range(threads.WATCHED):
        choice.note(30.0)
    assert choice.settle(BUSY) == "a step takes 50 times as long: 1 thread from here on, 4 until now"
    assert torch.get_num_threads() == 1
    for seconds in [2.5] * threads.WATCHED + [1.0] * threads.WATCHED:
        assert choice.settle(QUIET) == ""
        choice.note(seconds)
    assert choice.settle(QUIET) == "a step takes 40% of the time: 4 threads from here on, 1 until now"
    assert torch.get_num_threads() == 4


def test_a_busy_start_and_one_that_goes_on():
    choice = ThreadChoice(4)
    assert choice.settle(BUSY) == "1 of 4 threads: 12 times as fast as all beside the other programs here"
    assert torch.get_num_threads() == 1
    torch.set_num_threads(4)
    again = ThreadChoice(4, choice.number)
    assert not again.is_due
    assert torch.get_num_threads() == 1
    assert not ThreadChoice(1).is_due


def test_a_process_measures_only_beside_others_and_where_nobody_has_said_a_number(monkeypatch):
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "some_work", BUSY)
    monkeypatch.setattr(threads, "_others_run", lambda: True)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert (settle_threads(), watched(), torch.get_num_threads()) == ("", None, 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "_others_run", lambda: False)
    assert (settle_threads(), torch.get_num_threads(), threads.all_threads()) == ("", 4, 4)
    assert watched().most == 4
    monkeypatch.setattr(threads, "_others_run", lambda: True)
    assert "1 of 4 threads" in settle_threads()
    assert (torch.get_num_threads(), threads.all_threads(), watched().number) == (1, 4, 1)


def test_the_work_that_is_timed_takes_time_and_whether_others_run_can_be_told():
    assert 0 < threads.some_work() < 60
    assert threads._others_run() in (True, False)
