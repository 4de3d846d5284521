"""How do the judges compare with what everybody has: k-NN with FAISS's flat index, linear probe with scikit-learn? And
how long does a report take?

    python -m benchmarks.evaluation [--records]                              # 10,000 against 50,000 x 512
    python -m benchmarks.evaluation --train 10000 --test 2000 --dim 256      # a minute
    python -m benchmarks.evaluation --only report [--data DATA]              # a page about 10,000 images

Both of a pair run in turn in every round, on one thread. Times are the processor's, so that other work on the
machine counts little. k-NN: exact search of the k largest inner products, float32; the memory is what the search adds
beside its inputs and its answer. Linear probe: one fit at one penalty, on features of which some directions are a
hundred times longer than others, as a network's are; objectives are compared with that of a fit to convergence in
float64, so that neither is fast by stopping early. Report: the whole command, from the start of Python to the written
page, of a run that was evaluated before on the same images, and without its features (``--no-cache``); the run is an
untrained small-conv. ``--records``: add the rows to ``records/evaluation/results.csv`` (or to FILE); what is there is
not measured again; ``accuracy`` of k-NN is the share of places at which FAISS finds the same neighbour.
"""

import math
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import isosphere
from experiments.command import count, parser, version_of
from experiments.records import Table
from isosphere.evaluation import Logistic, fit_logistic
from isosphere.reductions import nearest_neighbours

RECORDS = Path(__file__).parent / "records" / "evaluation" / "results.csv"
KEY = ("question", "train", "test", "dim", "contender")
VALUES = (
    "seconds",
    "best_seconds",
    "ratio",
    "megabytes",
    "accuracy",
    "excess",
    "rounds",
    "python",
    "versions",
)
PACKAGES = ("faiss-cpu", "scikit-learn", "numpy")
Rows = dict[str, dict[str, float]]
"""Figures by contender."""


def features(n: int, dim: int, classes: int) -> tuple[Tensor, Tensor]:
    """Overlapping classes in a space whose directions differ a hundredfold in length."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator) * 3 / dim**0.5
    y = torch.randint(classes, (n,), generator=generator)
    x = centres[y] + torch.randn(n, dim, generator=generator)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
    return x * torch.logspace(-1, 1, dim) @ rotation, y


class Peak:
    """Resident memory added inside the block, in MB, sampled every few milliseconds."""

    def __enter__(self) -> "Peak":
        self.before, self.megabytes, self.done = self._now(), 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            self.megabytes = max(self.megabytes, self._now() - self.before)

    @staticmethod
    def _now() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6


def measure_neighbours(train: int, test: int, dim: int, k: int, rounds: int) -> Rows:
    x, _ = features(train + test, dim, 10)
    database, queries = functional.normalize(x, dim=1).split([train, test])
    print(f"\n{k} nearest of {train:,} x {dim} for {test:,} queries, {rounds} rounds")
    try:
        import faiss
    except ImportError:
        print("  FAISS is not installed: nothing to compare with (pip install faiss-cpu)")
        return {}
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(dim)
    index.add(database.numpy())
    with Peak() as peak:
        ours = nearest_neighbours(queries, database, k)
    theirs = index.search(queries.numpy(), k)[1]
    same = float((ours[1] == torch.from_numpy(theirs)).double().mean())
    times: dict[str, list[float]] = {"isosphere": [], "FAISS flat": []}
    for _ in range(rounds):
        start = time.process_time()
        nearest_neighbours(queries, database, k)
        middle = time.process_time()
        index.search(queries.numpy(), k)
        times["isosphere"].append(middle - start)
        times["FAISS flat"].append(time.process_time() - middle)
    rows = _report(times, "FAISS flat")
    rows["isosphere"] |= {"megabytes": peak.megabytes, "accuracy": same}
    print(f"  the same neighbours in {100 * same:.3f} % of places; {peak.megabytes:.0f} MB beside the inputs")
    return rows


def measure_probe(train: int, test: int, dim: int, classes: int, penalty: float, rounds: int) -> Rows:
    from sklearn.linear_model import LogisticRegression

    x, y = features(train + test, dim, classes)
    x, asked = x.split([train, test])
    y, right = y.split([train, test])
    print(
        f"\nlogistic regression, {train:,} x {dim}, {classes} classes, penalty {penalty:g}, {rounds} rounds"
    )
    times: dict[str, list[float]] = {"isosphere": [], "scikit-learn": []}
    theirs = LogisticRegression(C=1 / (penalty * train), max_iter=2000)
    for _ in range(rounds):
        start = time.process_time()
        ours = fit_logistic(x, y, penalty=penalty)
        middle = time.process_time()
        theirs.fit(x.numpy(), y.numpy())
        times["isosphere"].append(middle - start)
        times["scikit-learn"].append(time.process_time() - middle)
    ours = fit_logistic(x, y, penalty=penalty)
    best = _objective(fit_logistic(x.double(), y, penalty=penalty, start=ours, tolerance=1e-11), x, y)
    converted = Logistic(
        torch.tensor(theirs.coef_.T).double(),
        torch.tensor(theirs.intercept_).double(),
        ours.classes,
        penalty,
        0,
        True,
    )
    rows = _report(times, "scikit-learn")
    for name, fit in (("isosphere", ours), ("scikit-learn", converted)):
        accuracy = float((fit.predict(asked) == right).double().mean())
        excess = _objective(fit, x, y) - best
        rows[name] |= {"accuracy": accuracy, "excess": excess}
        print(f"  {name:<14}accuracy {100 * accuracy:.2f} %, objective {excess:+.1e} above the minimum")
    return rows


def measure_report(data: str | None, images: int, rounds: int) -> Rows:
    """Processor time of ``isosphere report`` on an evaluated run, and of one that has to embed first."""
    print(f"\nreport of {images:,} images, {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        source = data or _pictures(Path(folder) / "pictures.npz", images)
        run = isosphere.train(source, Path(folder) / "run", encoder="small-conv", epochs=0, progress=False)
        run.evaluate(source, tasks="knn", progress=False)
        words = ["report", str(run.folder.path), "--limit", str(images)]
        times: dict[str, list[float]] = {"evaluated": [], "no features": []}
        for _ in range(rounds):
            times["evaluated"].append(_command(*words))
            times["no features"].append(_command(*words, "--no-cache"))
        rows = _report(times, "evaluated")
        size = (run.folder.path / "report.html").stat().st_size / 1e6
    rows["evaluated"]["megabytes"] = size
    print(f"  the page has {size:.1f} MB")
    return rows


def _command(*words: str) -> float:
    """Run ``isosphere`` in a process of its own; its time on the processor in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "isosphere", *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _pictures(path: Path, count: int) -> str:
    """Smooth coloured pictures of 32 px in ten classes, `count` of them to be tested on."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.random((count + 500, 3, 5, 5), dtype=np.float32))
    pixels = functional.interpolate(small, 32, mode="bilinear").mul(255).byte().permute(0, 2, 3, 1).numpy()
    labels = rng.integers(0, 10, len(pixels))
    np.savez(
        path, x_train=pixels[count:], y_train=labels[count:], x_test=pixels[:count], y_test=labels[:count]
    )
    return str(path)


def _objective(fit: Logistic, x: Tensor, y: Tensor) -> float:
    loss = functional.cross_entropy(fit.logits(x.double()), torch.searchsorted(fit.classes, y))
    return float(loss + fit.penalty / 2 * fit.weight.square().sum())


def _report(times: dict[str, list[float]], base: str) -> Rows:
    reference, rows = statistics.median(times[base]), {}
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(
            f"  {name:<14}{middle:9.2f} s (best {min(seconds):.2f})   {middle / reference:6.2f} times {base}"
        )
        rows[name] = {
            "seconds": middle,
            "best_seconds": min(seconds),
            "ratio": middle / reference,
            "rounds": len(seconds),
        }
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--train", type=count, default=50_000)
    options.add_argument("--test", type=count, default=10_000)
    options.add_argument("--dim", type=count, default=512)
    options.add_argument("--classes", type=count, default=10)
    options.add_argument("-k", type=count, default=20)
    options.add_argument(
        "--penalty", type=float, action="append", help="may be repeated (default: 1e-2 and 1e-4)"
    )
    options.add_argument("--rounds", type=count, default=3)
    options.add_argument("--only", choices=["knn", "linear", "report"])
    options.add_argument("--data", help="of the report: images with a test part (default: made for it)")
    options.add_argument("--images", type=count, default=10_000, help="of the report")
    options.add_argument("--records", type=Path, nargs="?", const=RECORDS, metavar="FILE")
    a = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {_versions()}")
    print(f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    size = {"train": a.train, "test": a.test, "dim": a.dim}
    questions = {
        "knn": (size, lambda: measure_neighbours(a.train, a.test, a.dim, a.k, a.rounds)),
        **{
            f"linear {p:g}": (
                size,
                lambda p=p: measure_probe(a.train, a.test, a.dim, a.classes, p, a.rounds),
            )
            for p in a.penalty or [1e-2, 1e-4]
        },
        "report": (
            {"train": 0, "test": a.images, "dim": 0},
            lambda: measure_report(a.data, a.images, a.rounds),
        ),
    }
    table = Table(a.records or RECORDS, KEY, VALUES)
    for question, (sizes, measure) in questions.items():
        key = {"question": question, **sizes}
        if a.only and question.split()[0] != a.only:
            continue
        if a.records and any({k: str(v) for k, v in key.items()}.items() <= row.items() for row in table):
            continue
        rows = measure()
        for contender, row in rows.items() if a.records else ():
            table.append(key | {"contender": contender} | _figures(row))


def _figures(row: Mapping[str, float]) -> dict[str, str]:
    found = {name: f"{value:.4g}" for name, value in row.items() if not math.isnan(value)}
    return found | {"python": platform.python_version(), "versions": _versions()}


def _versions() -> str:
    return "; ".join(map(version_of, PACKAGES))


if __name__ == "__main__":
    main()
