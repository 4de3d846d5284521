"""Worker processes that compute batches ahead of their use, and leave nothing behind."""

import gc
import multiprocessing
import os
import pickle
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

import torch
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory as pinned

from isosphere.errors import RunError, UsageError, option

T = TypeVar("T")


def worker_count(asked: int | None = None) -> int:
    """Worker processes to use: what was asked for, at most one a processor; for None two where they are forked.

    Where processes are not forked (Windows, macOS) each of them imports the caller's program, which only a program
    with a guard against it can take: none unless they are asked for.

    Raises: UsageError for fewer than none.
    """
    if asked is not None and asked < 0:
        raise UsageError(f"{option('workers', asked)}: expected 0 or more processes that decode images.")
    if multiprocessing.current_process().daemon:  # which may have no children
        return 0
    if asked is None:
        asked = 2 if multiprocessing.get_start_method() == "fork" else 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = processors if _locks_can_be_had() else 0
    return min(asked, most)  # more than processors would only wait for each other, and torch warns


def _locks_can_be_had() -> bool:
    """Whether processes can talk to each other at all: their locks take some pages of /dev/shm."""
    try:
        return bool([multiprocessing.Lock() for _ in range(64)])
    except OSError:
        return False


class Ahead(Generic[T]):
    """``work(positions)`` for each list of positions in turn, computed by worker processes ahead of its use.

    An exception in ``work`` surfaces as itself, with a note of where in the worker it was raised; a worker that is
    killed as a RunError. Workers end with the iteration, used up, dropped or failed; those that are kept with one that
    fails. The global random generators are left alone. Results come through shared memory, and where a container has
    too little of it through a pipe, which costs a copy more.

    Args:
        workers: as :func:`worker_count` gives them; with 0 each result is computed here, when it is asked for.
        ahead: results that each worker may be in advance.
        keep: whether workers wait for the next iteration.
        pin_memory: whether results lie in memory that a GPU can copy from by itself.
    """

    def __init__(
        self,
        work: Callable[[list[int]], T],
        batches: Iterable[list[int]],
        *,
        workers: int,
        ahead: int = 2,
        keep: bool = False,
        pin_memory: bool = False,
    ) -> None:
        self._keep = keep
        self._loader = DataLoader(
            _Work(work, in_worker=workers > 0),
            batch_sampler=batches,  # type: ignore[arg-type]  (any iterable of lists does)
            num_workers=workers,
            worker_init_fn=_in_own_group if workers else None,
            prefetch_factor=ahead if workers else None,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            persistent_workers=keep and workers > 0,
            generator=torch.Generator(),  # else it draws from the global one
        )

    def __iter__(self) -> Generator[T]:
        results, keep = self._start(), self._keep
        try:
            while True:
                try:
                    result = next(results)
                    if isinstance(result, _Sent):
                        result = result.opened()
                except StopIteration:
                    return
                except (RuntimeError, OSError, EOFError) as error:
                    # A worker's death breaks the pipes in which its results travel, or is noticed by torch.
                    if (code := _exit_code(getattr(results, "_workers", ()))) is None:
                        raise
                    raise _ended(code) from error
                if isinstance(result, _Raised):
                    raise result.error
                yield result
        except GeneratorExit:
            raise
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                _end(results)  # now, and not when the last traceback that holds it is dropped
                self._loader._iterator = None

    def close(self) -> None:
        """End the workers that were kept; the next iteration would start new ones."""
        _end(self._loader._iterator)
        self._loader._iterator = None

    def _start(self) -> Any:
        frozen = gc.get_freeze_count()
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; the workers start no thread of the parent's libraries.
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            gc.freeze()  # a worker must not collect what the parent has dropped: another loader, that ends its workers
            try:
                results: Any = iter(self._loader)
            finally:
                if not frozen:
                    gc.unfreeze()
        if getattr(results, "_worker_pids_set", False):
            # Else torch raises on a worker's death in whatever line the main thread has come to, not in `next`.
            _remove_worker_pids(id(results))
            results._worker_pids_set = False
        return results


class _Work(Dataset):
    """What torch's loader asks for, a batch at a time."""

    def __init__(self, work: Callable[[list[int]], Any], *, in_worker: bool) -> None:
        self.work, self.in_worker = work, in_worker

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])

    def __getitems__(self, positions: list[int]) -> Any:
        if not self.in_worker:
            return self.work(positions)
        try:
            return _Sent(self.work(positions))
        except Exception as error:
            return _Raised(error)


class _Sent:
    """A result on its way out of a worker, made ready here: in the thread in which torch does that by itself, a lack of
    shared memory is an error that nobody hears of, and the result would be waited for for ever.
    """

    def __init__(self, result: Any) -> None:
        try:
            self._body = bytes(ForkingPickler.dumps(result))  # tensors go to shared memory
        except (RuntimeError, OSError):  # which has no room for them
            self._body = pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)

    def opened(self) -> Any:
        return pickle.loads(self._body)

    def pin_memory(self, device: object = None) -> Any:
        """Torch's thread for pinned memory asks for this."""
        return pinned(self.opened())


class _Raised:
    """An exception on its way out of a worker."""

    def __init__(self, error: Exception) -> None:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception that does not travel: its name and its words do
            error = RuntimeError("".join(traceback.format_exception_only(error)).strip())
        error.add_note("In a worker process:\n" + traceback.format_exc().rstrip())
        self.error = error


def _exit_code(workers: Sequence[Any]) -> int | None:
    """That of a worker which has ended, or is about to; None if all go on."""
    until = time.monotonic() + 1.0 if workers else 0.0
    while True:
        codes = [worker.exitcode for worker in workers if worker.exitcode is not None]
        if codes or time.monotonic() >= until:
            return codes[0] if codes else None
        time.sleep(0.01)


def _end(results: Any) -> None:
    if hasattr(results, "_shutdown_workers"):
        results._shutdown_workers()


def _in_own_group(worker: int) -> None:
    """Signals to the group of a program (Ctrl-C, a launcher's SIGTERM) are its own business: it may yet save, and for
    that needs its workers, which end with it.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def _as_it_is(result: Any) -> Any:
    return result


def _ended(code: int) -> RunError:
    """What to say of a worker that ended with this exit code."""
    by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    memory = ", which here means too little shared memory (/dev/shm)" if by == "SIGBUS" else ""
    return RunError(
        f"a worker process that decodes images was ended from outside ({by}{memory}). Often memory does not suffice "
        "for so many: give fewer workers, or none."
    )
