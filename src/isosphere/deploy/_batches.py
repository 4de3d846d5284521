"""Requests that come at once pass through the network together."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]


class Batches:
    """``await batches(row)`` gives the outputs of one row; while the network works, others wait and are the next batch.

    Args:
        run: from rows ``(n, ...)`` to outputs by name, ``(n, ...)`` each; called in one thread.
        most: rows of a batch.

    Within ``async with batches`` it works. A row whose caller has gone is left out.
    """

    def __init__(self, run: Callable[[NDArray[Any]], Outputs], most: int) -> None:
        self.run, self.most = run, most
        self._waiting: asyncio.Queue[tuple[NDArray[Any], asyncio.Future[Outputs]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "network")

    async def __aenter__(self) -> "Batches":
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, row: NDArray[Any]) -> Outputs:
        found = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((row, found))
        return await found

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self.most and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [each for each in batch if not each[1].done()]
            if not batch:
                continue
            try:
                rows = np.stack([row for row, _ in batch])
                made = await loop.run_in_executor(self._thread, self.run, rows)
            except Exception as error:
                for _, found in batch:
                    if not found.done():
                        found.set_exception(error)
                continue
            for i, (_, found) in enumerate(batch):
                if not found.done():
                    found.set_result({name: values[i] for name, values in made.items()})
