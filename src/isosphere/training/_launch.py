"""``--devices``: the same command as several processes of this host, under torch's elastic agent."""

import ctypes
import inspect
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
)
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import create_rdzv_handler

from isosphere.errors import option, plural
from isosphere.training._distributed import MEETING
from isosphere.training._interrupt import STOPPED_BY

_LAUNCHER = "ISOSPHERE_LAUNCHER"
"""The process of which those of ``--devices`` are children, and which they do not outlive."""

_PARTING = 60
"""Seconds to write a checkpoint in after Ctrl-C or SIGTERM."""

_GRACE = 10.0
"""Seconds that the other processes have to end by themselves after one has failed; then they are killed."""

_MISUSED = 2
_NOT_RESTARTED = (_MISUSED, *STOPPED_BY.values())
"""Exit codes of what would end in the same way again, or was meant to end."""


def launch(
    words: Sequence[str],
    *,
    devices: int,
    nodes: int = 1,
    node: int = 0,
    address: str = "127.0.0.1",
    port: int = 0,
    max_restarts: int = 0,
    say: Callable[[str], None] = print,
) -> int:
    """Run ``python -m isosphere WORDS`` as `devices` processes of this host, and return the exit code.

    The processes are those of torchrun, with its variables (``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ...). With
    several hosts this is number `node` of `nodes`, and all know the first one's address. On one host they meet in a
    file of a private folder, and nothing listens but on the loopback interface.
    The first process speaks; what the others wrote is shown if one of them fails first. When one fails the others have
    ten seconds to end, and all are started again, `max_restarts` times, each time to go on from the last checkpoint;
    `say` gets a sentence about the one that failed. What was used wrongly is not started again. Ctrl-C and SIGTERM are
    handed on, and all save. If this process is killed, Linux ends its processes (:func:`end_with_launcher`).

    Returns: 0 if all went well, 128 and the number of a signal that has stopped this process, else the first failure's
    code, 1 for one that a signal has ended.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        _environment(_variables(folder, devices, nodes)),
        _quiet_agent(),
    ):
        spec = WorkerSpec(
            role="isosphere",
            local_world_size=devices,
            rdzv_handler=_OneHost() if nodes == 1 else _meeting_at(address, port, node, nodes),
            entrypoint=sys.executable,
            args=("-m", "isosphere", *words),
            max_restarts=max_restarts,
            master_addr=address,
            master_port=port,
        )
        # The first one's output is the run's; that of the others is kept for the case of their failure.
        logs = DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, devices), Std.ALL))
        agent = _Agent(spec, logs, say)
        try:
            result = cast(RunResult, agent.run())
        except SignalException as stopped:
            return 128 + stopped.sigval
        if result.state == WorkerState.SUCCEEDED:
            return 0
        return max(agent.code, 1)


class _Agent(LocalElasticAgent):
    """Torch's agent, which gives the others time to end by themselves, names the first failure, and knows which a new
    start would not mend.
    """

    def __init__(self, spec: WorkerSpec, logs: DefaultLogsSpecs, say: Callable[[str], None]) -> None:
        known = inspect.signature(LocalElasticAgent).parameters  # older ones wait 30 seconds
        waiting: dict[str, Any] = {"shutdown_timeout": _PARTING} if "shutdown_timeout" in known else {}
        super().__init__(spec, logs, **waiting)
        self._say = say
        self.code = 0
        """Of the first failure."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:  # type: ignore[override]
        first = self._first_to_fail()
        result = cast(Any, super())._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED and result.failures:
            failures = {failure.local_rank: failure for failure in result.failures.values()}
            first = min(failures) if first is None else first
            self.code = failures[first].exitcode
            if self.code in _NOT_RESTARTED:
                self._remaining_restarts = 0
            self._tell(failures, first, worker_group)
        return result

    def _first_to_fail(self) -> int | None:
        """The local rank of the first that has ended badly, once all others have ended or been killed; None: none has.
        Of several that are found at once one that a signal has ended is the cause, the others are what came of it.
        """
        processes = {k: handler.proc for k, handler in cast(Any, self._pcontext).subprocess_handlers.items()}
        failed = [k for k, process in processes.items() if process.poll()]
        if not failed:
            return None
        first = min(failed, key=lambda k: (processes[k].returncode >= 0, k))
        until = time.monotonic() + _GRACE
        while any(process.poll() is None for process in processes.values()) and time.monotonic() < until + 1:
            if time.monotonic() > until:
                for process in processes.values():
                    process.kill()
            time.sleep(0.05)
        return first

    def _tell(self, failures: Mapping[int, ProcessFailure], first: int, group: WorkerGroup) -> None:
        code, most = self.code, group.spec.max_restarts
        done = most - self._remaining_restarts if code not in _NOT_RESTARTED else 0
        who = f"Process {group.workers[first].global_rank} of {group.workers[first].world_size}"
        spoken = failures.get(0)  # the first one says of a wrong use what all would say
        if not (spoken and code == spoken.exitcode == _MISUSED) and (said := _said(failures[first])):
            self._say(f"{who} said:\n{said}")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self._remaining_restarts:
            self._say(
                f"{who} {how}. All start again, from the last checkpoint if there is one: restart {done + 1} of "
                f"{most}."
            )
        elif code < 0 or done:
            after = f", after {plural(done, 'restart')}" if done else ""
            self._say(
                f"{who} {how}{after}; the others have been ended. Start again with {option('resume', True)}: a "
                "checkpoint that was written is good."
            )

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, *arguments: Any, **options: Any) -> None:
        """The processes save on Ctrl-C and SIGTERM; a terminal that closes is to them the same."""
        wish = death_sig if death_sig == signal.SIGINT else signal.SIGTERM
        handlers = list(getattr(self._pcontext, "subprocess_handlers", {}).values())
        super()._shutdown(wish, *arguments, **options)
        for handler in handlers:  # torch closes the logs of those alone that it had to end
            for log in (handler._stdout, handler._stderr):
                if log is not None:
                    log.close()


def _said(failure: ProcessFailure) -> str:
    """The end of what a process wrote; empty for one that wrote to the terminal."""
    logs = [Path(failure.error_file).with_name(f"{stream}.log") for stream in ("stdout", "stderr")]
    text = b"".join(log.read_bytes() for log in logs if log.exists())
    return text[-4000:].decode(errors="replace").strip()


class _OneHost(RendezvousHandler):
    """For an agent that has no other to wait for: nothing listens."""

    def get_backend(self) -> str:
        return "none"

    def next_rendezvous(self) -> RendezvousInfo:
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None: ...

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return "isosphere"

    def shutdown(self) -> bool:
        return True


def _meeting_at(address: str, port: int, node: int, nodes: int) -> RendezvousHandler:
    """The agents of several hosts meet at the first one, as ``torchrun --master-addr`` has it."""
    return create_rdzv_handler(
        RendezvousParameters("static", f"{address}:{port}", "isosphere", nodes, nodes, rank=node)
    )


def _variables(folder: str, devices: int, nodes: int) -> dict[str, str]:
    """Of the processes: shares of the CPU, whom they may not outlive, and on one host a file to meet in and the
    loopback interface to talk through.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // devices))} if devices > 1 else {}
    meeting = {}
    if nodes == 1 and devices > 1:
        loopback = {"lo", "lo0"} & {name for _, name in socket.if_nameindex()}
        talk = {f"{library}_SOCKET_IFNAME": name for library in ("GLOO", "NCCL") for name in loopback}
        meeting = {MEETING: str(Path(folder) / "meeting"), **talk}
    given = {name: os.environ[name] for name in {**threads, **meeting} if name in os.environ}
    return {**threads, **meeting, **given, _LAUNCHER: str(os.getpid())}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables and the handlers of signals, which the agent sets, as they were before once the block ends."""
    before = os.environ.copy()
    main = threading.current_thread() is threading.main_thread()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name) and main]
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in names}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, handler in handlers.items():
            signal.signal(getattr(signal, name), handler)
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """What the agent logs is said here in sentences; with torch's ``LOGLEVEL`` in the environment it is shown."""
    logger = logging.getLogger("torch.distributed.elastic")
    before, nothing = logger.propagate, logging.NullHandler()
    logger.addHandler(nothing)
    logger.propagate = "LOGLEVEL" in os.environ
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(nothing)


def end_with_launcher() -> None:
    """In a process of ``--devices``: save and end when the launcher dies, even by SIGKILL; two runs in one folder would
    be worse. Elsewhere nothing happens, nor where there is no ``prctl``.

    Raises: SystemExit where it has died already.
    """
    launcher = os.environ.pop(_LAUNCHER, None)  # of this process, not of those that it starts
    if launcher is None or sys.platform != "linux":
        return
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)
    if os.getppid() != int(launcher):
        raise SystemExit(128 + signal.SIGTERM)
