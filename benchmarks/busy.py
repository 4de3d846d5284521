"""How fast is a training beside other programs, by its number of threads?

    python -m benchmarks.busy [--seconds 30] [--records]

Beside nothing, one process that only computes, four of them, and four that train: a training with one thread, with all,
and with ``train.threads=auto``, each for so many seconds, in turns. ``small-conv``, textures of 48 px, batches of 128.
``speed`` is images a second from the first step to the last, with whatever ``auto`` measures; ``threads`` is what it
ended with; ``share`` is the speed over that of the faster fixed number beside the same programs. To be run on a machine
that does nothing else: the load is made here.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import isosphere
from experiments.command import number, parser
from experiments.records import Table
from isosphere.threads import some_work
from isosphere.training import choose_precision, read_position

RECORDS = Path(__file__).parent / "records" / "busy" / "results.csv"
KEY = ("beside", "threads_asked", "seconds")
VALUES = ("threads", "speed", "share")
BESIDE = {
    "nothing": (0, ""),
    "1 computing": (1, "spin"),
    "4 computing": (4, "spin"),
    "4 training": (4, "train"),
}
DATA = "textures:wood?count=512&size=48"


def speed(threads: str, seconds: float) -> tuple[int, float]:
    """The number of threads that a training ended with, and its images a second."""
    with tempfile.TemporaryDirectory() as out:
        run = isosphere.train(
            DATA,
            f"{out}/run",
            encoder="small-conv",
            batch_size=128,
            minutes=seconds / 60,
            progress=False,
            set={
                "train.threads": threads if threads == "auto" else int(threads),
                "train.precision": choose_precision("auto", torch.device("cpu")),
                "train.monitor": False,
                "train.knn_epochs": 0,
                "train.tensorboard": False,
                "data.workers": 0,
            },
        )
        at = read_position(run.folder.checkpoint)
        return at.threads or int(threads), at.images / at.elapsed


def load(kind: str) -> None:
    """Compute without an end: in Python, or as trainings do."""
    while True:
        if kind == "train":
            some_work()


@contextmanager
def beside(count: int, kind: str) -> Iterator[None]:
    """So many processes of this kind run meanwhile."""
    command = [sys.executable, "-m", "benchmarks.busy", "--load", kind]
    running = [subprocess.Popen(command, env=_environment()) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    return {
        key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=number, default=30.0)
    options.add_argument("--load", choices=["spin", "train"], help="used by itself")
    options.add_argument("--threads", help="used by itself")
    options.add_argument("--records", nargs="?", const=RECORDS, type=Path)
    given = options.parse_args()
    if given.load is not None:
        load(given.load)
    if given.threads is not None:
        print(*speed(given.threads, given.seconds))
        return
    table = None if given.records is None else Table(given.records, KEY, VALUES)
    most = torch.get_num_threads()
    for name, (count, kind) in BESIDE.items():
        found: dict[str, tuple[int, float]] = {}
        with beside(count, kind):
            for threads in dict.fromkeys(("auto", str(most), "1")):
                command = [sys.executable, "-m", "benchmarks.busy", "--threads", threads]
                command += ["--seconds", str(given.seconds)]
                done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True)
                number, rate = done.stdout.split()[-2:]
                found[threads] = int(number), float(rate)
        best = max(rate for threads, (_, rate) in found.items() if threads != "auto")
        for threads, (number, rate) in found.items():
            key = dict(zip(KEY, (name, threads, f"{given.seconds:g}"), strict=True))
            row = {"threads": number, "speed": f"{rate:.1f}", "share": f"{rate / best:.2f}"}
            print(
                f"beside {name:12} {threads:>5} threads ({number})  {rate:7.1f} images/s  {rate / best:.2f}",
                flush=True,
            )
            if table is not None and key not in table:
                table.append(key | row)


if __name__ == "__main__":
    main()
