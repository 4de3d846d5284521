"""The processes that torchrun started as one evaluation: the first judges, the others do their share for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from isosphere.errors import IsosphereError
from isosphere.training import is_first

__all__ = ["Team", "assembled"]

_PATIENCE = timedelta(days=7)
"""The others wait while the first one fits its probes."""


class Team:
    """One process, or all those of torchrun; `first` is the one that has the images, writes and speaks.

    The first process says what all are to do now, with :meth:`say`, and does it too; the others hear it from
    :meth:`jobs`. One process is a team that needs no words.
    """

    def __init__(self, size: int = 1) -> None:
        self.size, self.first = size, is_first()

    def say(self, *job: str) -> None:
        """Tell the other processes what to do together now."""
        if self.size > 1:
            dist.broadcast_object_list([job], src=0)

    def jobs(self) -> Iterator[tuple[str, ...]]:
        """What the first process says, until it says that all is done."""
        while True:
            heard: list[tuple[str, ...]] = [()]
            dist.broadcast_object_list(heard, src=0)
            if not heard[0]:
                return
            yield heard[0]

    @property
    def device(self) -> torch.device:
        """Where this process computes: a GPU of its own where there are any."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def assembled() -> Iterator[Team]:
    """The team of this command; at the end the first process sends the others home, also after an error of its
    own that it can name.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    if size == 1:
        yield Team()
        return
    # Features are gathered on the CPU, whatever they are computed on.
    dist.init_process_group("gloo", timeout=_PATIENCE)
    team = Team(size)
    try:
        try:
            yield team
        except IsosphereError:
            if team.first:
                team.say()
            raise
        if team.first:
            team.say()
    finally:
        dist.destroy_process_group()
