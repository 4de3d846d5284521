"""What does a step cost on many devices? Formulas for traffic, memory and time, checked and carried to 1,024 GPUs.

    python -m benchmarks.scaling [--write]

Four tables, in Markdown; ``--write`` puts them between their marks in docs/scaling.md.
``traffic``: bytes and calls that the collective functions see in one forward and backward pass on 2 and 4 processes
(gloo), against the formulas. ``time``: the records of ``benchmarks.discrepancies`` (one core) against
``seconds = products / rate + entries * cost``, both constants fitted for n <= 4096 and used to predict 16,384.
``memory``: MiB that one training step adds to the resident set, with and without micro-batches. ``carried``: the
formulas at a global batch of 65,536 on 1,024 GPUs, under the assumptions that head the table.
"""

import argparse
import csv
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.command import parser
from isosphere.discrepancies import KL, KSD, MMD, SUSReg, Uniformity
from isosphere.kernels import BandlimitedKernel, HeatKernel, VonMisesFisherKernel
from isosphere.methods import JEPA, BarlowTwins, SimCLR, SimSiam, VICReg
from isosphere.sphere import normalize

ROOT = Path(__file__).parent
DOCUMENT = ROOT.parent / "docs" / "scaling.md"
RECORDS = ROOT / "records" / "discrepancies" / "results.csv"
SLICES, KNOTS = 1024, 8


@dataclass(frozen=True)
class Size:
    """n rows over all ranks, d dimensions, V views, W ranks."""

    n: int
    d: int
    views: int
    ranks: int

    @property
    def here(self) -> int:
        return self.n // self.ranks


@dataclass(frozen=True)
class Cost:
    """Of one rank and one step, forward and backward; float32 is four bytes.

    ``gathered``: bytes received by gathers. ``reduced``: bytes summed over ranks. ``calls``: collective calls, one
    after the other. ``products``: floating-point operations of matrix products. ``entries``: elementwise evaluations.
    ``kept``: bytes that live between forward and backward.
    """

    gathered: float = 0
    reduced: float = 0
    calls: int = 0
    products: float = 0
    entries: float = 0
    kept: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(self.values, other.values, strict=True)))

    @property
    def values(self) -> tuple[Any, ...]:
        return self.gathered, self.reduced, self.calls, self.products, self.entries, self.kept


def scalars(count: int) -> Cost:
    """Sums of one float32 over ranks, there and back."""
    return Cost(reduced=8 * count, calls=2 * count)


def counts(s: Size, times: int = 1) -> Cost:
    """The ranks tell each other how many rows they hold: an integer each."""
    return Cost(reduced=8 * s.ranks * times, calls=times)


def pair_sum(s: Size) -> Cost:
    """MMD, KSD, uniformity, energies: gather all rows, sum a float64, hand one number back; a view at a time.

    One rank alone visits each unordered pair once: three products of n^2/2 pairs; else its rows meet all, twice.
    """
    pairs = s.here * s.n
    alone = s.ranks == 1
    return counts(s, 1 + s.views) + Cost(
        gathered=4 * s.views * (s.n - s.here) * s.d,
        reduced=12 * s.views,
        calls=3 * s.views,
        products=(3 if alone else 4) * s.views * pairs * s.d,
        entries=s.views * pairs / (2 if alone else 1),
        kept=8 * s.views * s.here * s.d,
    )


def pair_log_sum(s: Size, *, total: bool = True) -> Cost:
    """KL: the same with the rows' log-sums gathered too, and a second pass over the pairs in the backward pass."""
    pairs = s.here * s.n
    alone = s.ranks == 1
    return counts(s, total + s.views) + Cost(
        gathered=4 * s.views * (s.n - s.here) * (s.d + 1),
        reduced=12 * s.views,
        calls=4 * s.views,
        products=(4 if alone else 6) * s.views * pairs * s.d,
        entries=s.views * pairs / (2 if alone else 1),
        kept=4 * s.views * ((s.n + s.here) * s.d + s.n + s.here),
    )


def moments(s: Size) -> Cost:
    """Kernels of degree 1 and 2, VICReg: a d x d matrix a view, there and back."""
    return counts(s) + Cost(
        reduced=8 * s.views * (s.d + s.d**2),
        calls=4,
        products=4 * s.views * s.here * s.d**2,
        kept=4 * s.views * (s.here * s.d + 2 * s.d**2),
    )


def sliced(s: Size) -> Cost:
    """SUSReg, SIGReg: cosines and sines of M slices at K positive knots; nothing grows with n but the local work."""
    return counts(s, 1 + s.views) + Cost(
        reduced=s.views * (8 * KNOTS * SLICES + 4),
        calls=2 * s.views,
        products=6 * s.views * s.here * s.d * SLICES,
        entries=2 * s.views * s.here * SLICES * KNOTS,
        kept=4 * s.views * (s.here * s.d + 2 * KNOTS * SLICES),
    )


def undirected(s: Size) -> int:
    """Pairs of views with a global one in them, two of the views being global."""
    return 1 + 2 * (s.views - 2)


def simclr(s: Size) -> Cost:
    both = Size(2 * s.n, s.d, 1, s.ranks)
    one = counts(s) + pair_log_sum(both, total=False) + scalars(1)
    return sum((one for _ in range(undirected(s))), Cost())


def barlow(s: Size) -> Cost:
    pairs = undirected(s)
    return counts(s) + Cost(
        reduced=16 * s.views * s.d + 8 * pairs * s.d**2,
        calls=4 + 2 * pairs,
        products=6 * pairs * s.here * s.d**2,
        kept=4 * (2 * s.views * s.here * s.d + pairs * s.d**2),
    )


def jepa(of: Callable[[Size], Cost]) -> Callable[[Size], Cost]:
    return lambda s: counts(s) + scalars(1) + of(s)


def simsiam(s: Size) -> Cost:
    directed = 2 * (s.views - 1)
    return counts(s) + scalars(directed)


FORMULAS: dict[str, Callable[[Size], Cost]] = {
    "MMD heat": pair_sum,
    "KSD heat": pair_sum,
    "uniformity": pair_sum,
    "KL": pair_log_sum,
    "MMD bandlimited": moments,
    "SUSReg": sliced,
    "JEPA with KL": jepa(pair_log_sum),
    "SimCLR": simclr,
    "VICReg": lambda s: moments(s) + scalars(undirected(s)),
    "Barlow Twins": barlow,
    "SimSiam": simsiam,
}


def subjects(d: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is measured: from embeddings ``(V, n_r, d)`` to a scalar."""
    nothing = nn.Identity(), nn.Identity()
    simsiam_method = SimSiam(*nothing, nn.Identity())
    vicreg, barlow_twins, contrast = VICReg(*nothing), BarlowTwins(*nothing), SimCLR(*nothing)
    kl = JEPA(*nothing, KL(VonMisesFisherKernel(d)), weight=0.5)
    return {
        "MMD heat": MMD(HeatKernel(d)),
        "KSD heat": KSD(HeatKernel(d)),
        "uniformity": Uniformity(),
        "KL": KL(VonMisesFisherKernel(d)),
        "MMD bandlimited": MMD(BandlimitedKernel(d)),
        "SUSReg": SUSReg(d, num_slices=SLICES, knots=2 * KNOTS + 1),
        "JEPA with KL": lambda z: kl.loss(z).total,
        "SimCLR": lambda z: contrast.loss(z).total,
        "VICReg": lambda z: vicreg.loss(z).total,
        "Barlow Twins": lambda z: barlow_twins.loss(z).total,
        "SimSiam": lambda z: simsiam_method.loss(z, z).total,
    }


class Counter:
    """Bytes and calls of torch's collective functions on this rank."""

    def __init__(self) -> None:
        self.gathered = self.reduced = self.calls = 0
        self._reduce, self._gather = dist.all_reduce, dist.all_gather

    def __enter__(self) -> "Counter":
        def all_reduce(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.reduced, self.calls = self.reduced + x.nbytes, self.calls + 1
            return self._reduce(x, *args, **kwargs)

        def all_gather(blocks: list[Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.gathered, self.calls = self.gathered + (len(blocks) - 1) * x.nbytes, self.calls + 1
            return self._gather(blocks, x, *args, **kwargs)

        dist.all_reduce, dist.all_gather = all_reduce, all_gather
        return self

    def __exit__(self, *_: object) -> None:
        dist.all_reduce, dist.all_gather = self._reduce, self._gather


SIZES = [Size(n, d, views, ranks) for ranks in (2, 4) for n, d, views in ((512, 64, 2), (256, 32, 4))]


def count_on_a_rank(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    found = {}
    for size in (s for s in SIZES if s.ranks == ranks):
        generator = torch.Generator().manual_seed(rank)
        z = normalize(torch.randn(size.views, size.here, size.d, generator=generator)).requires_grad_()
        for name, subject in subjects(size.d).items():
            with Counter() as counter:
                subject(z).sum().backward()
            found[size, name] = (counter.gathered, counter.reduced, counter.calls)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.destroy_process_group()


def measured_traffic() -> dict[tuple[Size, str], tuple[int, int, int]]:
    """(gathered, reduced, calls) of rank 0 by size and subject."""
    found: dict[tuple[Size, str], tuple[int, int, int]] = {}
    for ranks in sorted({s.ranks for s in SIZES}):
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(count_on_a_rank, (ranks, folder), nprocs=ranks)
            found |= torch.load(Path(folder) / "found.pt", weights_only=False)
    return found


def traffic_table() -> list[str]:
    """Every count has to be the formula's, to the byte; the last size of all is shown."""
    head = "| n = {}, d = {}, V = {}, {} ranks | bytes gathered | bytes reduced | calls |"
    rows = [head.format(SIZES[-1].n, SIZES[-1].d, SIZES[-1].views, SIZES[-1].ranks), "|---|---|---|---|"]
    for (size, name), found in measured_traffic().items():
        said = FORMULAS[name](size).values[:3]
        if found != said:
            raise SystemExit(f"{name}, {size}: counted {found}, and the formula says {said}")
        if size == SIZES[-1]:
            gathered, reduced, calls = found
            rows.append(f"| {name} | {gathered:,} | {reduced:,} | {calls} |")
    return rows


TIMED = {
    "mmd-heat": pair_sum,
    "ksd-heat": pair_sum,
    "uniformity": pair_sum,
    "kl-vmf": pair_log_sum,
    "susreg": sliced,
    "sigreg": sliced,
}


def fitted(name: str) -> tuple[float, float, list[tuple[int, int, float, float]]]:
    """Rate (operations/s), cost (s an entry), and (n, d, measured ms, predicted ms) of a statistic's records."""
    global KNOTS
    KNOTS, before = 16, KNOTS  # of the records
    with RECORDS.open() as file:
        rows = [r for r in csv.DictReader(file) if r["statistic"] == name and r["device"] == "cpu"]
    sizes = [(int(r["n"]), int(r["dim"]), float(r["ms"])) for r in rows]
    costs = {(n, d): TIMED[name](Size(n, d, 1, 1)) for n, d, _ in sizes}
    KNOTS = before
    chosen = [(n, d, ms) for n, d, ms in sizes if 1024 <= n <= 4096]
    a = torch.tensor([[costs[n, d].products / ms, costs[n, d].entries / ms] for n, d, ms in chosen]).double()
    per_product, per_entry = torch.linalg.lstsq(a, torch.ones(len(a), 1).double()).solution.flatten().tolist()
    predicted = [
        (n, d, ms, per_product * costs[n, d].products + per_entry * costs[n, d].entries) for n, d, ms in sizes
    ]
    return 1e3 / per_product, per_entry / 1e3, predicted


def time_table() -> list[str]:
    rows = [
        "| | products, GFLOP/s | an entry, ns | largest error to 4,096 | 16,384 rows, ms | predicted |",
        "|---|" + "---|" * 5,
    ]
    for name in TIMED:
        rate, cost, sizes = fitted(name)
        error = max(abs(said / ms - 1) for n, _, ms, said in sizes if 1024 <= n <= 4096)
        far = [(ms, said) for n, d, ms, said in sizes if (n, d) == (16384, 256)]
        last = f"{far[0][0]:,.0f} | {far[0][1]:,.0f}" if far else "– | –"
        rows.append(f"| {name} | {rate / 1e9:.0f} | {1e9 * cost:.2f} | {100 * error:.0f} % | {last} |")
    return rows


def resident(key: str) -> int:
    """KiB from the kernel's account of this process."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


def probe_memory(batch: int, pieces: int, bound: int = 32) -> None:
    """Print the MiB that one step adds to this process (Linux)."""
    from isosphere.methods import build_method
    from isosphere.models import build_encoder
    from isosphere.training import Differentiator, Step, StepTimer, make_fabric

    torch.set_num_threads(1)
    method = build_method("kl-vmf", build_encoder("small-conv", image_size=bound), weight=0.5).train()
    fabric = make_fabric("cpu", "float32")
    network = fabric.setup(Step(method))
    for rows in (2 * pieces, batch):
        views = [torch.randn(rows, 3, bound, bound) for _ in range(2)]
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        Differentiator(network, method, fabric, StepTimer(fabric.device), pieces=pieces)(views)
    print((resident("VmHWM") - before) / 1024)


def memory_table(batch: int = 1024) -> list[str]:
    rows = ["| batch | micro-batch | added by a step, MiB |", "|---|---|---|"]
    for micro in (batch, 256, 64):
        command = [sys.executable, "-m", "benchmarks.scaling", "--probe", f"{batch},{batch // micro}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
        rows.append(
            f"| {batch:,} | {micro if micro < batch else '–'} | {float(done.stdout.split()[-1]):,.0f} |"
        )
    return rows


# What is assumed of the machine; each is a factor in the table and can be put right there.
PRODUCTS, ENTRIES = 20e12, 1e11  # float32 products and elementwise evaluations a second, on one GPU
WIRE, LATENCY = 40e9, 20e-6  # bytes/s between GPUs, and seconds a step of a collective's tree


def seconds(cost: Cost, ranks: int) -> tuple[float, float]:
    """(computing, communicating): a sum over ranks passes its bytes twice, every call climbs a tree."""
    wire = cost.gathered + 2 * (ranks - 1) / ranks * cost.reduced
    climb = cost.calls * LATENCY * math.ceil(math.log2(ranks))
    return cost.products / PRODUCTS + cost.entries / ENTRIES, wire / WIRE + climb


def carried_table() -> list[str]:
    rows = [
        "| | d, V | computing, ms | communicating, ms | of it latency, ms | gathered, MB | kept, MB |",
        "|---|" + "---|" * 6,
    ]
    for d, views in ((256, 2), (256, 8), (1024, 2)):
        formulas = {
            "JEPA with MMD or KSD": jepa(pair_sum),
            "JEPA with SUSReg or SIGReg": jepa(sliced),
            "JEPA with a kernel of degree 2": jepa(moments),
        } | {name: FORMULAS[name] for name in ("JEPA with KL", "SimCLR", "VICReg", "Barlow Twins", "SimSiam")}
        for name, formula in formulas.items():
            size = Size(65536, d, views, 1024)
            cost = formula(size)
            computing, talking = seconds(cost, size.ranks)
            latency = cost.calls * LATENCY * math.ceil(math.log2(size.ranks))
            rows.append(
                f"| {name} | {d}, {views} | {1e3 * computing:.2f} | {1e3 * talking:.2f} | {1e3 * latency:.2f} | "
                f"{cost.gathered / 1e6:,.1f} | {cost.kept / 1e6:,.1f} |"
            )
    return rows


TABLES: dict[str, Callable[[], list[str]]] = {
    "traffic": traffic_table,
    "time": time_table,
    "memory": memory_table,
    "carried": carried_table,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tables", default=",".join(TABLES))
    options.add_argument("--write", action="store_true", help="into docs/scaling.md")
    options.add_argument("--probe", help=argparse.SUPPRESS)
    a = options.parse_args()
    if a.probe:
        probe_memory(*map(int, a.probe.split(",")))
        return
    for name in a.tables.split(","):
        table = "\n".join(TABLES[name]())
        print(f"{name}\n{table}\n", flush=True)
        if a.write:
            text = DOCUMENT.read_text(encoding="utf-8")
            start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
            head, rest = text.split(start)
            DOCUMENT.write_text(head + start + table + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
