"""Several processes as one run: how they find each other, what they decide together, and the signs of one that died."""

import atexit
import json
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from isosphere.devices import send
from isosphere.errors import RunError, UsageError, option

if TYPE_CHECKING:
    from lightning.fabric import Fabric


_SIGNS_OF_LOSS = (
    "connection closed by peer",
    "connection reset",
    "timed out waiting",
    "timeout waiting",
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


def restarts() -> tuple[int, int]:
    """How often the processes have been started again after a failure, and how often they may be; (0, 0) without
    torchrun or ``--devices``.
    """
    environment = os.environ
    return int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")), int(
        environment.get("TORCHELASTIC_MAX_RESTARTS", "0")
    )


MEETING = "ISOSPHERE_MEETING"
"""Names the file in a private folder in which the processes of one host find each other."""


def meet(backend: str, patience: timedelta) -> None:
    """Join the other processes: those of ``--devices`` on one host by a file, so that nothing listens on a network;
    others at MASTER_ADDR, as torchrun and srun set it.
    """
    file, local = os.environ.get(MEETING), int(os.environ.get("LOCAL_RANK", "0"))
    if file is None:
        dist.init_process_group(backend, timeout=patience)
        return
    dist.init_process_group(
        backend,
        init_method=f"file://{file}.{restarts()[0]}",  # what was written before a failure is another group's
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=patience,
        device_id=torch.device("cuda", local) if backend == "nccl" else None,
    )
    if backend == "nccl":
        atexit.register(dist.destroy_process_group)


def has_meeting() -> bool:
    """Whether ``--devices`` has started this process, and all others are on this host."""
    return MEETING in os.environ


def agreed(fabric: "Fabric", *flags: bool, seconds: float = 0.0) -> tuple[tuple[bool, ...], float]:
    """Each flag as true everywhere if it is so on any rank, so that nobody stops, or waits for a checkpoint, alone; and
    the first rank's seconds, so that a schedule that follows the clock is the same on all ranks.
    """
    if fabric.world_size == 1:
        return flags, seconds
    mine = [*map(float, flags), seconds if fabric.is_global_zero else 0.0]
    votes = send(torch.tensor(mine, dtype=torch.float64), fabric.device)
    dist.all_reduce(votes)  # fabric's own waits at a barrier before
    *found, clock = votes.tolist()
    return tuple(vote > 0 for vote in found), clock


def common(fabric: "Fabric", seconds: float) -> float:
    """The first rank's seconds."""
    return agreed(fabric, seconds=seconds)[1]


def of_all_ranks(fabric: "Fabric", mine: Any) -> list[Any]:
    """What each rank has, in their order."""
    found: list[Any] = [mine]
    if fabric.world_size > 1:
        found *= fabric.world_size
        dist.all_gather_object(found, mine)
    return found


def alike(fabric: "Fabric", facts: Mapping[str, Any]) -> None:
    """Refuse ranks that would not do the same: they would train on different things, or wait for each other for ever.

    Raises: RunError on every rank, naming the first fact that differs.
    """
    if fabric.world_size == 1:
        return
    mine = {key: json.dumps(value, sort_keys=True) for key, value in facts.items()}
    try:
        facts_of = of_all_ranks(fabric, mine)
    except RuntimeError as error:
        if not lost(error):
            raise
        raise RunError("another process of this run has ended while it was starting.") from None
    for rank, theirs in enumerate(facts_of):
        for key, value in facts_of[0].items():
            if theirs.get(key) != value:
                raise RunError(
                    f"the processes of this run differ: {key} is {value} on the first and {theirs.get(key)} on number "
                    f"{rank}. Every host needs the same command and images, and a folder of the run "
                    f"({option('out')}) that all of them see."
                )


def lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, or has not answered within the time allowed."""
    if isinstance(error, dist.DistError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in _SIGNS_OF_LOSS)
