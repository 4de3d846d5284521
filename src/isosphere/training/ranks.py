"""Several processes as one run: who has started us, decisions that all take alike, and the signs of one that died."""

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric

from isosphere.errors import RunError, UsageError

__all__ = ["agreed", "alike", "common", "is_first", "is_launched", "launched", "lost"]

_SIGNS_OF_LOSS = (
    "connection closed by peer",
    "connection reset",
    "timed out waiting",
    "broken pipe",
    "gloo/transport",
)
"""What gloo's plain RuntimeErrors say when another process is gone or does not answer."""


def _by_slurm() -> bool:
    """Whether srun has started us: not a shell of an interactive job, where Lightning does not look at SLURM either."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def is_launched() -> bool:
    """Whether somebody has started this process as one of several: torchrun, ``--devices``, or srun."""
    return "LOCAL_WORLD_SIZE" in os.environ or _by_slurm()


def launched() -> tuple[int, int]:
    """Processes on this machine and number of machines, as torchrun, ``--devices`` or srun set them; else (1, 1).

    Raises: UsageError for tasks of SLURM that are not a number per node, or were not started by srun.
    """
    if "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, max(1, int(os.environ.get("WORLD_SIZE", "1")) // local)
    if not _by_slurm() or (tasks := int(os.environ["SLURM_NTASKS"])) == 1:
        return 1, 1
    if "SLURM_STEP_ID" not in os.environ and "SLURM_STEPID" not in os.environ:
        raise UsageError(
            f"SLURM has granted {tasks} tasks, and this process was not started by srun: type srun isosphere train ..."
        )
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UsageError(
            f"SLURM has granted {tasks} tasks without saying how many on each node: give --ntasks-per-node to sbatch "
            "or srun, one task for each GPU."
        )
    return int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ.get("SLURM_NNODES", "1"))


def is_first() -> bool:
    """Whether this process writes and speaks: the only one, or rank 0."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return os.environ.get("RANK", "0") == "0"
    return not _by_slurm() or os.environ.get("SLURM_PROCID", "0") == "0"


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


def alike(fabric: Fabric, facts: Mapping[str, Any]) -> None:
    """Refuse ranks that would not do the same: they would train on different things, or wait for each other for ever.

    Raises: RunError on every rank, naming the first fact that differs.
    """
    if fabric.world_size == 1:
        return
    told: list[Any] = [None] * fabric.world_size
    mine = {key: json.dumps(value, sort_keys=True) for key, value in facts.items()}
    try:
        dist.all_gather_object(told, mine)
    except RuntimeError as error:
        if not lost(error):
            raise
        raise RunError("another process of this run has ended while it was starting.") from None
    for rank, theirs in enumerate(told):
        for key, value in told[0].items():
            if theirs.get(key) != value:
                raise RunError(
                    f"the processes of this run differ: {key} is {value} on the first and {theirs.get(key)} on number "
                    f"{rank}. Every host needs the same command and images, and a folder of the run (--out) that all "
                    "of them see."
                )


def lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, or has not answered within the time allowed."""
    if isinstance(error, dist.DistError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in _SIGNS_OF_LOSS)
