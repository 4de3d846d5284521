"""A pool of gloo processes for the whole test session: functions run on every rank, with unequal data."""

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORLD = 3


def _serve(rank: int, store: str, jobs, results) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1000 + rank)  # global generators differ on purpose
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=60)
    )
    # Groups of two and three ranks; every process takes part in making them.
    groups = {2: dist.new_group([0, 1]), 3: dist.new_group([0, 1, 2])}
    while (job := jobs.get()) is not None:
        function, world, arguments = job
        try:
            outcome = function(rank, groups[world], *arguments[rank]) if rank < world else None
            results.put((rank, outcome, None))
        except Exception as error:
            results.put((rank, None, f"{type(error).__name__}: {error}"))
    dist.destroy_process_group()


class Ranks:
    """``run(function, world, arguments)`` calls ``function(rank, group, *arguments[rank])`` on ranks 0..world-1."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        store = os.path.join(self._folder.name, "store")  # noqa: PTH118
        self._jobs = [context.Queue() for _ in range(WORLD)]
        self._results = context.Queue()
        self._processes = [
            context.Process(target=_serve, args=(r, store, self._jobs[r], self._results), daemon=True)
            for r in range(WORLD)
        ]
        for process in self._processes:
            process.start()

    def run(self, function: Callable, world: int, arguments: list[tuple]) -> list[Any]:
        padded = [*arguments, *[()] * (WORLD - len(arguments))]
        for queue in self._jobs:
            queue.put((function, world, padded))
        outcomes: list[Any] = [None] * WORLD
        failures = []
        for _ in range(WORLD):
            rank, outcome, failure = self._results.get(timeout=150)
            outcomes[rank] = outcome
            if failure:
                failures.append(f"rank {rank}: {failure}")
        if failures:
            raise RuntimeError("; ".join(failures))
        return outcomes[:world]

    def close(self) -> None:
        for queue in self._jobs:
            queue.put(None)
        for process in self._processes:
            process.join(timeout=10)
        self._folder.cleanup()
