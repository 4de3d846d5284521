"""How do the judges compare with what everybody has: k-NN with FAISS's flat index, linear probe with scikit-learn?

    python benchmarks/evaluation.py                                       # 10,000 against 50,000 x 512
    python benchmarks/evaluation.py --train 10000 --test 2000 --dim 256   # a minute

Both of a pair run in turn in every round, on one thread. Times are the processor's, so that other work on the
machine counts little. k-NN: exact search of the k largest inner products, float32; the memory is what the search adds
beside its inputs and its answer. Linear probe: one fit at one penalty, on features of which some directions are a
hundred times longer than others, as a network's are; objectives are compared with that of a fit to convergence in
float64, so that neither is fast by stopping early.
"""

import argparse
import platform
import resource
import statistics
import threading
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.evaluation import Logistic, fit_logistic
from isosphere.reductions import nearest_neighbours


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


def measure_neighbours(train: int, test: int, dim: int, k: int, rounds: int) -> None:
    x, _ = features(train + test, dim, 10)
    database, queries = functional.normalize(x, dim=1).split([train, test])
    print(f"\n{k} nearest of {train:,} x {dim} for {test:,} queries, {rounds} rounds")
    try:
        import faiss
    except ImportError:
        print("  FAISS is not installed: nothing to compare with (pip install faiss-cpu)")
        return
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
    _report(times, "FAISS flat")
    print(f"  the same neighbours in {100 * same:.3f} % of places; {peak.megabytes:.0f} MB beside the inputs")


def measure_probe(train: int, test: int, dim: int, classes: int, penalties: list[float], rounds: int) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = features(train + test, dim, classes)
    x, asked = x.split([train, test])
    y, right = y.split([train, test])
    for penalty in penalties:
        print(
            f"\nlogistic regression, {train:,} x {dim}, {classes} classes, penalty {penalty:g}, {rounds} rounds"
        )
        times: dict[str, list[float]] = {"isosphere": [], "scikit-learn": []}
        for _ in range(rounds):
            start = time.process_time()
            ours = fit_logistic(x, y, penalty=penalty)
            middle = time.process_time()
            theirs = LogisticRegression(C=1 / (penalty * train), max_iter=2000).fit(x.numpy(), y.numpy())
            times["isosphere"].append(middle - start)
            times["scikit-learn"].append(time.process_time() - middle)
        best = _objective(fit_logistic(x.double(), y, penalty=penalty, start=ours, tolerance=1e-11), x, y)
        converted = Logistic(
            torch.tensor(theirs.coef_.T).double(),
            torch.tensor(theirs.intercept_).double(),
            ours.classes,
            penalty,
            0,
            True,
        )
        _report(times, "scikit-learn")
        for name, fit in (("isosphere", ours), ("scikit-learn", converted)):
            accuracy = float((fit.predict(asked) == right).double().mean())
            excess = _objective(fit, x, y) - best
            print(f"  {name:<14}accuracy {100 * accuracy:.2f} %, objective {excess:+.1e} above the minimum")


def _objective(fit: Logistic, x: Tensor, y: Tensor) -> float:
    loss = functional.cross_entropy(fit.logits(x.double()), torch.searchsorted(fit.classes, y))
    return float(loss + fit.penalty / 2 * fit.weight.square().sum())


def _report(times: dict[str, list[float]], base: str) -> None:
    reference = statistics.median(times[base])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(
            f"  {name:<14}{middle:9.2f} s (best {min(seconds):.2f})   {middle / reference:6.2f} times {base}"
        )


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} absent"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument(
        "--penalty", type=float, action="append", help="may be repeated (default: 1e-2 and 1e-4)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["knn", "linear"])
    a = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = ("torch", "faiss-cpu", "scikit-learn")
    print(f"Python {platform.python_version()}, " + ", ".join(_version(name) for name in names))
    print(f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    if a.only != "linear":
        measure_neighbours(a.train, a.test, a.dim, a.k, a.rounds)
    if a.only != "knn":
        measure_probe(a.train, a.test, a.dim, a.classes, a.penalty or [1e-2, 1e-4], a.rounds)


if __name__ == "__main__":
    main()
