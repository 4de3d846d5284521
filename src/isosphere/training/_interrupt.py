"""What ends a training early: Ctrl-C and SIGTERM as a wish that the loop grants, and failures in words."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from isosphere.errors import NotFiniteError, RemoteError, WriteError, option, out_of_memory
from isosphere.training._config import Config
from isosphere.training._deterministic import NOT_DETERMINISTIC, WORKSPACE
from isosphere.training._distributed import lost, restarts
from isosphere.training._gradient import pieces_that_fit

if TYPE_CHECKING:
    from lightning.fabric import Fabric


STOPPED_BY = {"Ctrl-C": 130, "SIGTERM": 143}
"""The exit codes by which a shell knows a program that a signal has ended."""


class Interrupt:
    """Within the block, the first SIGINT or SIGTERM is noted in `requested`; a second one acts as it always did.

    Outside the main thread, where Python allows no handlers, it notes nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = {name: signal.signal(name, self._note) for name in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)  # type: ignore[arg-type]
        self._previous = {}


def failure_in_words(error: Exception, checkpoint: Path, config: Config, fabric: "Fabric") -> str | None:
    """What is left and what to type after numbers that are none, images that can no longer be read, a full memory, a
    lost process; None for others.
    """
    train = config.train
    kept = (
        f"The last good checkpoint, {checkpoint}, is kept."
        if checkpoint.exists()
        else "No checkpoint had been written yet."
    )
    if isinstance(error, NotFiniteError):
        lower = option("optim.learning_rate", config.optim.learning_rate / 10)
        return (
            f"{error} {kept} Add {option('resume', True)} and a lower {lower}, or "
            f"{option('optim.clip', 1.0)}, or {option('train.precision', 'float32')}."
        )
    if isinstance(error, WriteError):
        return f"{error} Then go on with {option('resume', True)}."
    if isinstance(error, RemoteError):
        return f"{error} {kept} The same with {option('resume', True)} goes on from there."
    if out_of_memory(error):
        batch = train.batch_size or 4
        taken = train.micro_batch or batch
        smaller = [size for size in pieces_that_fit(batch, fabric.world_size) if size < taken]
        pieces = f"{option('train.micro_batch', smaller[-1])} or " if smaller else ""
        return (
            f"a step of {taken} images does not fit into the device's memory: start anew with {pieces}a smaller "
            f"{option('batch_size')}. {kept}"
        )
    if train.deterministic and isinstance(error, RuntimeError) and WORKSPACE in str(error):
        return (
            f"cuBLAS was used in this process before, in another order of adding: set {WORKSPACE}=:4096:8 before the "
            f"program starts, or leave out {option('train.deterministic', True)}. {kept}"
        )
    if train.deterministic and isinstance(error, RuntimeError) and NOT_DETERMINISTIC in str(error):
        operator = str(error).partition(" does not have")[0]
        return (
            f"{operator} has no deterministic algorithm on this device ({fabric.device.type}): leave out "
            f"{option('train.deterministic', True)}, or train on another one. {kept}"
        )
    if fabric.world_size > 1 and lost(error):
        done, most = restarts()
        return (
            f"another process of this run is gone, or has not answered for {train.timeout_minutes:g} minutes "
            f"(process {fabric.global_rank} of {fabric.world_size} noticed). {kept}"
            + ("" if done < most else f" Start all of them again with {option('resume', True)}.")
        )
    return None
