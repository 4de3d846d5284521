"""One command as several processes on this host: started together, watched, and ended together."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import IO, Any

__all__ = ["GRACE", "launch"]

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
    ``MASTER_PORT``); with several hosts this is number `node` of `nodes`, and all know the first one's address.
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
    team = _Team(processes)
    with ExitStack() as files, team:
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
        failed = team.first_failure()
        started = time.monotonic()
        if failed is None:
            return 0
        team.end(_PARTING if team.stopped else grace)
        code = processes[failed].returncode
        note = notes[failed]
        misused = 2
        told = code == misused == processes[0].returncode  # the first one has said the same
        if not team.stopped and note is not None and not told:
            note.seek(0)
            if text := note.read()[-4000:].decode(errors="replace").strip():
                say(f"Process {failed} of {devices} said:\n{text}")
        if code < 0 and not team.stopped:
            say(
                f"Process {failed} of {devices} was ended by {signal.Signals(-code).name}; the others were ended "
                f"{time.monotonic() - started:.1f} s later. Start again with --resume: the last checkpoint is good."
            )
        return code if code > 0 else 1


class _Team:
    """The processes; within the block signals are handed on to them, and none outlives it."""

    def __init__(self, processes: list[subprocess.Popen[Any]]) -> None:
        self.processes = processes
        self.stopped = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Team":
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
