"""How many threads of the CPU to compute with: as many as there are, unless fewer are measured to be clearly faster.

Threads of one operation wait for each other at its end. Beside other programs one of them is soon kept from its core,
and all the others wait for it, layer by layer: two threads can then be a tenth as fast as one.
"""

__all__ = [
    "ThreadChoice",
    "all_threads",
    "choose",
    "is_given",
    "number_of_threads",
    "settle_threads",
    "some_work",
    "time_threads",
    "watched",
]

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional

from isosphere.errors import plural

CLEARLY = 1.15
"""So many times as fast fewer threads must be to be taken: what is nearly level would be chosen by chance."""
CHANGED = 1.5
"""Ratio of times from which on the machine is taken for busier, or less busy, than it was."""
ROUNDS = 3
WATCHED = 8
"""Steps over which a time is averaged."""
PATIENCE = 10.0
"""Seconds at the least from one measurement to the next."""

_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_most: int | None = None
"""Threads of this process where :func:`settle_threads` may choose fewer."""


def is_given() -> bool:
    """Whether the environment says how many threads to take."""
    return any(os.environ.get(name) for name in _SETTINGS)


def all_threads() -> int:
    """How many torch computes with where nothing was chosen by :func:`settle_threads`."""
    return _most or torch.get_num_threads()


@contextmanager
def number_of_threads() -> Iterator[None]:
    """What is set within the block ends with it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settle_threads() -> str:
    """Choose how many threads this process computes with, at its start and, by :func:`watched`, later on, unless the
    environment has a number; what there is to say about it, else empty. Nothing is measured where no other program is
    running.
    """
    global _most
    if is_given():
        return ""
    _most = all_threads()
    return ThreadChoice(_most).settle(some_work, rounds=1) if _others_run() else ""


def watched() -> "ThreadChoice | None":
    """The choice of this process, for work in batches; None where it is not for :func:`settle_threads` to make."""
    return None if _most is None else ThreadChoice(_most, torch.get_num_threads())


def time_threads(seconds: Callable[[], float], most: int, *, rounds: int = ROUNDS) -> dict[int, float]:
    """Seconds of some work by number of threads: `most`, half of them, and one.

    `seconds` does the work and says how long it took. It is done in turns, so that whatever else the machine does is
    borne by all numbers, and once before that to wake the threads.
    """
    taken = dict.fromkeys(sorted({most, max(1, most // 2), 1}, reverse=True), 0.0)
    with number_of_threads():
        for turn in range(rounds + 1):
            for number in taken:
                torch.set_num_threads(number)
                spent = seconds()
                taken[number] += spent if turn else 0.0
    return taken


def choose(taken: Mapping[int, float]) -> int:
    """The most threads, unless fewer are clearly faster."""
    most, fastest = max(taken), min(taken, key=lambda number: taken[number])
    return fastest if taken[most] >= CLEARLY * taken[fastest] else most


class ThreadChoice:
    """The number of threads of work that comes in steps: measured before the first one, and again when steps take
    clearly longer, or shorter, than they did.

    Args:
        most: threads at the most. number: what was chosen before; 0: nothing.
    """

    def __init__(self, most: int, number: int = 0) -> None:
        self.most, self.number = most, number
        self._usual: float | None = None
        self._last: list[float] = []
        self._measured_at = float("-inf")
        if number:
            torch.set_num_threads(number)

    @property
    def is_due(self) -> bool:
        """Whether it is to be measured: at the beginning, and where steps take another time than usual."""
        if self.most == 1:
            return False
        if not self.number:
            return True
        if self._usual is None or len(self._last) < WATCHED:
            return False
        waited = time.monotonic() - self._measured_at >= PATIENCE
        return waited and not 1 / CHANGED < self._ratio < CHANGED

    def settle(self, seconds: Callable[[], float], *, rounds: int = ROUNDS) -> str:
        """Measure where that is due, by :func:`time_threads`; what there is to say about it, else empty."""
        if not self.is_due:
            return ""
        before, ratio = self.number, self._ratio
        taken = time_threads(seconds, self.most, rounds=rounds)
        self.number = choose(taken)
        self._measured_at, self._usual, self._last = time.monotonic(), None, []
        torch.set_num_threads(self.number)
        if before:
            longer = f"{ratio:.2g} times as long" if ratio > 1 else f"{ratio:.0%} of the time"
            changed = (
                f"a step takes {longer}: {plural(self.number, 'thread')} from here on, {before} until now"
            )
            return "" if before == self.number else changed
        gain = taken[self.most] / taken[self.number]
        found = f"{self.number} of {self.most} threads: {gain:.2g} times as fast as all beside the other programs here"
        return "" if self.number == self.most else found

    def note(self, seconds: float) -> None:
        """Take down what a step took."""
        self._last = [*self._last, seconds][-WATCHED:]
        if self._usual is None and len(self._last) == WATCHED:
            self._usual, self._last = sum(self._last) / WATCHED, []

    @property
    def _ratio(self) -> float:
        """What the last steps took, as a multiple of what is usual."""
        return sum(self._last) / len(self._last) / self._usual if self._last and self._usual else 1.0


def some_work() -> float:
    """Seconds of a few convolutions, forward and backward, as small networks have them."""
    x = torch.ones(8, 32, 24, 24).contiguous(memory_format=torch.channels_last)
    kernel = torch.ones(32, 32, 3, 3, requires_grad=True)
    with torch.enable_grad():
        begun = time.perf_counter()
        for _ in range(4):
            x = functional.relu(functional.conv2d(x, kernel, padding=1))
        torch.autograd.grad(x.mean(), kernel)
    return time.perf_counter() - begun


def _others_run() -> bool:
    """Whether other programs are running, or waiting for a core, at this moment; on systems that do not tell, in the
    last minute.
    """
    try:
        running, _, _ = Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")
        return int(running) > 1
    except (OSError, ValueError, IndexError):
        return hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5
