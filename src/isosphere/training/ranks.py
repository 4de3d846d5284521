"""Several processes as one run: how many torchrun has started, and decisions that all of them take alike."""

import os

import torch
from lightning.fabric import Fabric

__all__ = ["agreed", "common", "is_first", "launched"]


def launched() -> tuple[int, int]:
    """Processes on this machine and number of machines, as torchrun set them; (1, 1) where it did not start us."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return local, max(1, int(os.environ.get("WORLD_SIZE", "1")) // local)


def is_first() -> bool:
    """Whether this process writes and speaks: the only one, or torchrun's rank 0."""
    return "LOCAL_WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


def agreed(fabric: Fabric, *flags: bool) -> tuple[bool, ...]:
    """Each flag as true everywhere if it is so on any rank: nobody stops, or waits for a checkpoint, alone."""
    if fabric.world_size == 1:
        return flags
    votes = fabric.all_reduce(torch.tensor(flags, dtype=torch.float32, device=fabric.device), reduce_op="sum")
    assert isinstance(votes, torch.Tensor)
    return tuple(vote > 0 for vote in votes.tolist())


def common(fabric: Fabric, seconds: float) -> float:
    """The first rank's seconds, so that a schedule that follows the clock is the same on all ranks."""
    return seconds if fabric.world_size == 1 else fabric.broadcast(seconds)
