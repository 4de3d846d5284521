"""The processes that torchrun started, as one evaluation: rank 0 judges, the others read and encode their share."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isosphere.errors import IsosphereError, RunError
from isosphere.training import is_first, lost, meet

_PATIENCE = timedelta(days=7)
"""The others wait while rank 0 fits its probes."""


class Ranks:
    """One process, or all those of a launcher; `first` is the one that judges, writes and speaks.

    Rank 0 asks the others for work with :meth:`request` and does its share of it too; they hear it from
    :meth:`requests`. One process needs no words.
    """

    def __init__(self, world: int = 1) -> None:
        self.world = world
        self.rank = dist.get_rank() if world > 1 else 0

    @property
    def first(self) -> bool:
        """Whether this process judges, writes and speaks."""
        return self.rank == 0

    def request(self, *words: str) -> None:
        """Ask the other ranks for work; without words they are done."""
        if self.world > 1:
            with _explained():
                dist.broadcast_object_list([words], src=0)

    def requests(self) -> Iterator[tuple[str, ...]]:
        """What rank 0 asks for, until it needs nothing more."""
        while True:
            heard: list[tuple[str, ...]] = [()]
            with _explained():
                dist.broadcast_object_list(heard, src=0)
            if not heard[0]:
                return
            yield heard[0]

    def gather(self, about: Any) -> list[Any]:
        """A small object of each rank, in their order; on the other ranks nothing."""
        if self.world == 1:
            return [about]
        found: list[Any] = [None] * self.world
        with _explained():
            dist.gather_object(about, found if self.first else None, dst=0)
        return found if self.first else []

    def gather_rows(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows of all ranks, one after the other, by name, on rank 0's CPU; on the other ranks nothing.

        A rank without rows may have no names.
        """
        if self.world == 1:
            return dict(rows)
        shapes = self.gather({name: (len(x), x.shape[1:], x.dtype) for name, x in rows.items()})
        if not self.first:
            for x in rows.values():
                if len(x):
                    with _explained():
                        dist.send(x.cpu().contiguous(), 0)
            return {}
        # Rank by rank, in the order in which each sends.
        known = {name: (shape, kind) for own in shapes for name, (_, shape, kind) in own.items()}
        whole = {
            name: torch.empty(sum(own.get(name, (0,))[0] for own in shapes), *shape, dtype=kind)
            for name, (shape, kind) in known.items()
        }
        done = dict.fromkeys(known, 0)
        for rank, own in enumerate(shapes):
            for name, (count, *_) in own.items():
                part = whole[name][done[name] : done[name] + count]
                done[name] += count
                if rank == 0:
                    part.copy_(rows[name])
                elif count:
                    with _explained():
                        dist.recv(part, rank)
        return whole

    @property
    def device(self) -> torch.device:
        """Where this process computes: a GPU of its own where there are any."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def process_group() -> Iterator[Ranks]:
    """The ranks of this evaluation; at the end rank 0 lets the others go, also after an error that it can name."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    if size == 1:
        yield Ranks()
        return
    # Features are gathered on the CPU, whatever they are computed on.
    meet("gloo", _PATIENCE)
    ranks = Ranks(size)
    try:
        try:
            yield ranks
        except IsosphereError:
            if is_first():
                ranks.request()
            raise
        if ranks.first:
            ranks.request()
    finally:
        dist.destroy_process_group()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not lost(error):
            raise
        raise RunError("another process of this evaluation has ended: start all of them again.") from None
