"""Several processes as one run: how they are started, what they decide together, and the signs of one that died."""

import atexit
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

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


_MEETING = "ISOSPHERE_MEETING"
"""Names the file in a private folder in which the processes of one host find each other."""


def meet(backend: str, patience: timedelta) -> None:
    """Join the other processes: those of ``--devices`` on one host by a file, so that nothing listens on a network;
    others at MASTER_ADDR, as torchrun and srun set it.
    """
    file, local = os.environ.get(_MEETING), int(os.environ.get("LOCAL_RANK", "0"))
    if file is None:
        dist.init_process_group(backend, timeout=patience)
        return
    dist.init_process_group(
        backend,
        init_method=f"file://{file}",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=patience,
        device_id=torch.device("cuda", local) if backend == "nccl" else None,
    )
    if backend == "nccl":
        atexit.register(dist.destroy_process_group)


def has_meeting() -> bool:
    """Whether ``--devices`` has started this process, and all others are on this host."""
    return _MEETING in os.environ


def _within_this_host(folder: str) -> dict[str, str]:
    """Variables of processes that talk to each other through a file and the loopback interface."""
    loopback = {"lo", "lo0"} & {name for _, name in socket.if_nameindex()}
    talk = {f"{library}_SOCKET_IFNAME": name for library in ("GLOO", "NCCL") for name in loopback}
    given = {name: os.environ[name] for name in talk if name in os.environ}
    return {_MEETING: str(Path(folder) / "meeting"), **talk, **given}


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


# --- starting several processes on this host ----------------------------------------------------------------

GRACE = 10.0
"""Seconds that the other processes have to end by themselves after one has failed; then they are killed."""

_PARTING = 60.0
"""Seconds to write a checkpoint in after Ctrl-C or SIGTERM."""


def launch(
    words: Sequence[str],
    *,
    devices: int,
    nodes: int = 1,
    node: int = 0,
    address: str = "127.0.0.1",
    port: int | None = None,
    say: Callable[[str], None] = print,
    grace: float = GRACE,
) -> int:
    """Run ``python -m isosphere WORDS`` as `devices` processes of this host, and return the exit code.

    Each has torchrun's variables (``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``LOCAL_WORLD_SIZE``, ``MASTER_ADDR``,
    ``MASTER_PORT``); with several hosts this is number `node` of `nodes`, and all know the first one's address. On one
    host they meet in a file of a private folder, and nothing listens but on the loopback interface.
    The first process speaks; what the others wrote is shown if one of them fails first. When one fails, the others
    have `grace` seconds, then they are killed, and `say` gets a sentence about the one that failed. Ctrl-C and SIGTERM
    are handed on once, and all save. If this process is killed, Linux ends its processes.

    Returns: 0 if all went well, else the first failure's code, 1 for one that a signal has ended.
    """
    port = port or _free_port()
    common = {
        "WORLD_SIZE": str(devices * nodes),
        "LOCAL_WORLD_SIZE": str(devices),
        "NODE_RANK": str(node),
        "GROUP_RANK": str(node),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices))),
    }
    processes: list[subprocess.Popen[Any]] = []
    notes: list[IO[bytes] | None] = []
    group = _Group(processes)
    with ExitStack() as files, group:
        if nodes == 1:
            common |= _within_this_host(files.enter_context(tempfile.TemporaryDirectory()))
        for local in range(devices):
            rank = {"RANK": str(node * devices + local), "LOCAL_RANK": str(local)}
            # The first one's output is the run's; that of the others is kept for the case of their failure.
            note = None if local == 0 else files.enter_context(tempfile.TemporaryFile())
            notes.append(note)
            command = [sys.executable, "-m", "isosphere", *words]
            options: dict[str, Any] = {
                "stdout": note,
                "stderr": note,
                "env": {**os.environ, **common, **rank},
            }
            if sys.platform == "linux":
                options["preexec_fn"] = _die_with_parent
            # In sessions of their own: the terminal's Ctrl-C comes to us, and from us to each, once.
            processes.append(subprocess.Popen(command, start_new_session=True, **options))
        failed = group.first_failure()
        started = time.monotonic()
        if failed is None:
            return 0
        group.end(_PARTING if group.stopped else grace)
        code = processes[failed].returncode
        note = notes[failed]
        misused = 2
        said = code == misused == processes[0].returncode  # by the first one, in the same words
        if not group.stopped and note is not None and not said:
            note.seek(0)
            if text := note.read()[-4000:].decode(errors="replace").strip():
                say(f"Process {failed} of {devices} said:\n{text}")
        if code < 0 and not group.stopped:
            say(
                f"Process {failed} of {devices} was ended by {signal.Signals(-code).name}; the others were ended "
                f"{time.monotonic() - started:.1f} s later. Start again with "
                f"{option('resume', True)}: the last checkpoint is good."
            )
        return code if code > 0 else 1


class _Group:
    """The processes; within the block signals are handed on to them, and none outlives it."""

    def __init__(self, processes: list[subprocess.Popen[Any]]) -> None:
        self.processes = processes
        self.stopped = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Group":
        self._previous = {
            name: signal.signal(name, self._hand_on) for name in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def first_failure(self) -> int | None:
        """Wait until all have ended well (None) or one has not: its number."""
        while True:
            codes = [process.poll() for process in self.processes]
            failed = [k for k, code in enumerate(codes) if code not in (None, 0)]
            if failed:  # one that a signal has ended is the cause, the others are what came of it
                return min(failed, key=lambda k: (codes[k] >= 0, k))  # type: ignore[operator]
            if all(code == 0 for code in codes):
                return None
            time.sleep(0.05)

    def end(self, seconds: float) -> None:
        """Wait so long for the others, then kill them."""
        until = time.monotonic() + seconds
        while any(process.poll() is None for process in self.processes) and time.monotonic() < until:
            time.sleep(0.05)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _hand_on(self, number: int, frame: object) -> None:
        self.stopped = True
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)


def _die_with_parent() -> None:
    """Linux: ask for SIGTERM when the parent dies, even by SIGKILL; two runs in one folder would be worse."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
