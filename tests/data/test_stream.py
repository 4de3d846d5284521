"""A stream of decoded batches: the same for every number of workers, and nothing left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.data import Decoded, Source, images_at, load_images, open_source, stream
from isosphere.data._arrays import ArraySource
from isosphere.data._workers import worker_count
from isosphere.errors import RunError, UsageError


@pytest.fixture
def source(make_folder) -> Source:
    """101 pictures of which three cannot be read."""
    folder = make_folder([f"{i:03}.png" for i in range(101)])
    for i in (3, 4, 99):
        (folder / f"{i:03}.png").write_bytes(b"broken")
    return open_source(folder)


def equal(ours: list[Decoded], theirs: list[Decoded]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.index, b.index) and a.failed == b.failed
        for a, b in pairs
    )


@pytest.mark.parametrize("workers", [0, 1, 3, None])
def test_the_number_of_workers_does_not_show(source, workers, new_processes):
    batches = list(stream(source, 10, batch_size=40, workers=workers))
    whole = load_images(source, 10)
    assert torch.equal(torch.cat([b.images for b in batches]), whole.images)
    assert [source.paths[i] for b in batches for i in b.index] == whole.paths
    assert [len(b.index) for b in batches] == [38, 40, 20]
    assert [sorted(b.failed) for b in batches] == [[3, 4], [], [99]]
    assert batches[0].failed[3].startswith("not an image")
    assert batches[0].images.dtype == torch.uint8
    assert batches[0].index.dtype == torch.int64
    assert new_processes() == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_share_of_whole_batches_gives_these_batches(source, workers):
    everything = list(stream(source, 8, batch_size=16, workers=0))
    for rank in range(2):
        shares = [torch.arange(101)[k * 16 : (k + 1) * 16] for k in range(rank, 7, 2)]
        share = list(stream(source, 8, positions=torch.cat(shares), batch_size=16, workers=workers))
        assert equal(share, everything[rank::2])


def test_positions_are_taken_in_their_order_and_may_repeat(source):
    (batch,) = stream(source, 8, positions=[7, 3, 0, 7])
    assert batch.index.tolist() == [7, 0, 7]
    assert torch.equal(batch.images[0], batch.images[2])
    assert list(batch.failed) == [3]
    (empty,) = stream(source, 8, positions=np.array([3, 4]))
    assert empty.images.shape == (0, 3, 8, 8)
    assert sorted(empty.failed) == [3, 4]
    assert list(stream(source, 8, positions=[])) == []


def test_wrong_arguments_are_refused_at_once(source):
    with pytest.raises(
        ValueError, match="positions reach from -1 to 3; expected 0 to 100, the images of pictures"
    ):
        stream(source, 8, positions=[3, -1])
    with pytest.raises(ValueError, match="positions reach from 0 to 101"):
        stream(source, 8, positions=range(102))
    with pytest.raises(ValueError, match="size is 0"):
        stream(source, 0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        stream(source, 8, batch_size=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_strict_ends_with_the_names(source, workers, new_processes):
    with pytest.raises(
        RunError, match=r"2 images of pictures cannot be read: 003\.png \(not an .*leave out strict"
    ):
        list(stream(source, 8, batch_size=10, workers=workers, strict=True))
    assert new_processes() == 0
    clean = source.subset([i for i in range(99) if i not in (3, 4)])
    assert sum(len(b.index) for b in stream(clean, 8, batch_size=10, workers=workers, strict=True)) == 97
    clean.unreadable.append(("x.jxl", "not read"))
    with pytest.raises(RunError, match=r"1 image of pictures cannot be read: x\.jxl"):
        stream(clean, 8, strict=True)


def test_progress_counts_up_to_the_end(source):
    counted = []
    for _ in stream(source, 8, batch_size=40, progress=lambda *counts: counted.append(counts)):
        pass
    assert counted == [(40, 101), (80, 101), (101, 101)]


class Counted(Source):
    """Pictures that say in which process they were decoded, some of which raise."""

    def __init__(self, n: int, error: BaseException | None = None, at: int = -1) -> None:
        super().__init__("counted", [f"{i}" for i in range(n)])
        self.error, self.at = error, at
        self.decoded = multiprocessing.Value("l")

    def image(self, i, *, at_least=None):
        with self.decoded.get_lock():
            self.decoded.value += 1
        if i == self.at and self.error is not None:
            raise self.error
        return Image.new("RGB", (4, 4), (os.getpid() % 251, i % 256, 0))


def processes(batches: list[Decoded]) -> set[int]:
    return {int(x) for b in batches for x in b.images[:, 0, 0, 0]}


def test_workers_decode_only_where_it_is_worth_it(new_processes):
    here = {os.getpid() % 251}
    assert processes(list(stream(Counted(90), 4, batch_size=20, workers=2))) != here
    assert processes(list(stream(Counted(40), 4, batch_size=20, workers=2))) == here
    assert processes(list(stream(Counted(90), 4, batch_size=20, workers=0))) == here
    memory = ArraySource(np.zeros((90, 4, 4), np.uint8), name="x")
    assert memory.in_memory
    assert memory.subset([0]).in_memory
    it = stream(memory, 4, batch_size=20, workers=2)
    next(it)
    assert new_processes() == 0


def test_without_fork_workers_are_used_only_when_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "fork")
    assert worker_count() == min(2, worker_count(64))
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    assert worker_count() == 0
    assert worker_count(1) == 1


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_memory_holds_a_few_batches_and_not_the_set(workers):
    source = Counted(10_000)
    with closing(stream(source, 4, batch_size=64, workers=workers)) as batches:
        next(batches)
        time.sleep(0.5)  # time to run ahead
        assert source.decoded.value <= (5 * 64 if workers else 64)


class CodedError(Exception):
    """Cannot be built from one message alone, as torch would."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(code, where)
        self.code, self.where = code, where


class StubbornError(Exception):
    """Does not travel between processes."""

    def __init__(self) -> None:
        super().__init__("in a bad mood")
        self.lock = threading.Lock()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_source_raises_surfaces_as_itself_with_its_traceback(workers, new_processes):
    with pytest.raises(CodedError) as raised:
        list(stream(Counted(200, CodedError(7, "shelf"), at=50), 4, batch_size=20, workers=workers))
    assert (raised.value.code, raised.value.where) == (7, "shelf")
    notes = "".join(getattr(raised.value, "__notes__", []))
    if workers:
        assert "In a worker process:" in notes
        assert "raise self.error" in notes
    else:
        assert not notes
        assert raised.traceback[-1].name == "image"
    assert new_processes() == 0


def test_an_exception_that_does_not_travel_is_named():
    with pytest.raises(RuntimeError, match=r"StubbornError: in a bad mood") as raised:
        list(stream(Counted(200, StubbornError(), at=50), 4, batch_size=20, workers=2))
    assert "raise self.error" in "".join(raised.value.__notes__)


class Killed(Counted):
    """Ends the process that decodes one of its pictures."""

    def image(self, i, *, at_least=None):
        if i == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().image(i)


def test_a_killed_worker_is_an_error_in_words(new_processes):
    with pytest.raises(
        RunError, match=r"was ended from outside \(SIGKILL\)\. .* give fewer workers, or none\.$"
    ):
        list(stream(Killed(200, at=50), 4, batch_size=20, workers=2))
    assert new_processes() == 0


def no_room(*args):
    raise RuntimeError(
        "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
    )


def test_without_room_in_shared_memory_results_come_all_the_same(source, monkeypatch, new_processes):
    expected = list(stream(source, 8, batch_size=40, workers=0))
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", no_room)  # as the workers inherit it
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", no_room)
    assert equal(list(stream(source, 8, batch_size=40, workers=2)), expected)
    assert new_processes() == 0


def test_where_processes_can_have_no_locks_there_are_none(monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing, "Lock", full)
    assert worker_count(2) == worker_count() == 0


def test_fewer_workers_than_none_are_refused():
    with pytest.raises(UsageError, match="workers=-1: expected 0 or more processes"):
        worker_count(-1)


def test_a_stream_that_is_broken_off_leaves_no_process(new_processes):
    batches = stream(Counted(2000), 4, batch_size=20, workers=2)
    next(batches)
    assert new_processes() == 2
    del batches
    gc.collect()
    assert new_processes() == 0


def test_an_error_of_the_caller_leaves_no_process(new_processes):
    def use() -> None:
        for _ in stream(Counted(2000), 4, batch_size=20, workers=2):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        use()
    gc.collect()
    assert new_processes() == 0


def test_an_interrupt_leaves_no_process():
    program = textwrap.dedent(
        """
        import multiprocessing, signal, time
        from PIL import Image
        from isosphere.data import Source, stream

        class Slow(Source):
            def image(self, i, *, at_least=None):
                time.sleep(0.002)
                return Image.new("RGB", (4, 4))

        signal.signal(signal.SIGINT, signal.default_int_handler)
        slow = Slow("slow", [str(i) for i in range(100_000)])
        try:
            for k, _ in enumerate(stream(slow, 4, batch_size=20, workers=2)):
                if k == 0:
                    print(*(p.pid for p in multiprocessing.active_children()), flush=True)
        except KeyboardInterrupt:
            print("interrupted", len(multiprocessing.active_children()), flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        workers = [int(pid) for pid in child.stdout.readline().split()]
        assert len(workers) == 2
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted 0\n"
    assert child.returncode == 0
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generators_are_left_alone(source, workers):
    before = torch.get_rng_state()
    list(stream(source, 8, batch_size=10, workers=workers))
    assert torch.equal(before, torch.get_rng_state())


def test_images_at_decodes_these_alone_and_shows_grey_for_the_others(source):
    found = images_at(source, [98, 3, 0], 10)
    assert torch.equal(found[[0, 2]], next(stream(source, 10, positions=[98, 0])).images)
    assert (found[1] == 128).all()
    counted = Counted(100)
    assert images_at(counted, torch.tensor([5, 6]), 4).shape == (2, 3, 4, 4)
    assert counted.decoded.value == 2
    with pytest.raises(ValueError, match="positions reach from 0 to 100"):
        images_at(counted, [0, 100], 4)


OF_A_GROUP = """
import os, signal, sys
import torch
from isosphere.data._workers import Ahead

asked = []
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
results = iter(Ahead(lambda positions: torch.tensor(positions), [[k] for k in range(40)], workers=1, ahead=1))
found = [int(next(results))]
os.killpg(0, signal.SIGTERM)
found += [int(result) for result in results]
print(asked == [signal.SIGTERM], found == list(range(40)))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_a_signal_to_the_whole_group_leaves_the_workers_to_their_program():
    """As a launcher sends it to each process that it has started: what is to be saved still needs them."""
    done = subprocess.run(
        [sys.executable, "-c", OF_A_GROUP],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.stdout == "True True\n", done.stderr
