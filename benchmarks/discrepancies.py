"""How fast is a statistic of a batch? Forward and backward, against lightly's SIGReg and plain PyTorch, in one run.

    python -m benchmarks.discrepancies --n 256,1024,2048 --dim 256 [--device cuda] [--memory] [--records]

Contenders are interleaved round by round (15 rounds to n = 2048, fewer beyond); the minimum is reported, and its
ratio to lightly's SIGReg (1024 slices, pip install lightly). ``susreg`` and ``sigreg`` use lightly's sixteen positive
knots on (0, 3]. Every timed value and gradient is compared with float64 (relative error of the value, of the gradient's
norm; beyond n = 4096 for three of them). ``--memory``: MiB that one step adds to the resident set of
a warmed-up process of its own. ``--records``: add the rows to ``records/discrepancies/results.csv``, skip what is
there, and draw them.
"""

import argparse
import math
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from experiments.command import count, parser
from experiments.drawing import COLOURS, panels, save
from experiments.records import Table
from isosphere.discrepancies import KL, KSD, MMD, SIGReg, SUSReg, Uniformity
from isosphere.kernels import BandlimitedKernel, HeatKernel, VonMisesFisherKernel
from isosphere.sphere import normalize

Statistic = Callable[[Tensor], Tensor]
RECORDS = Path(__file__).parent / "records" / "discrepancies"
KEY = ("n", "dim", "device", "statistic")
VALUES = ("ms", "lightly_ratio", "value_error", "gradient_error", "mib", "rounds")


def plain_mmd(dim: int) -> Statistic:
    kernel = HeatKernel(dim)

    def statistic(z: Tensor) -> Tensor:
        return (kernel(z @ z.T).mean() - kernel.mean) / (1 - kernel.mean)

    return statistic


def one_line_uniformity(z: Tensor) -> Tensor:
    return torch.pdist(z).pow(2).mul(-2).exp().mean().log()


def contenders(dim: int, device: str, *, lightly: bool = True) -> dict[str, Statistic]:
    rule = {"num_slices": 1024, "knots": 33, "reach": 3.0}
    ours: dict[str, torch.nn.Module] = {
        "mmd-heat": MMD(HeatKernel(dim)),
        "mmd-bandlimited": MMD(BandlimitedKernel(dim)),
        "ksd-heat": KSD(HeatKernel(dim)),
        "kl-vmf": KL(VonMisesFisherKernel(dim)),
        "uniformity": Uniformity(),
        "susreg": SUSReg(dim, **rule),
        "sigreg": SIGReg(dim, **rule),
    }
    for module in ours.values():
        module.to(device)
    rivals: dict[str, Statistic] = {"plain mmd-heat": plain_mmd(dim), "pdist uniformity": one_line_uniformity}
    if not lightly:
        return ours | rivals
    try:
        from lightly.loss import SIGReg as LightlySIGReg

        rivals["lightly SIGReg"] = LightlySIGReg(num_vectors=1024).to(device)
    except ImportError:
        print("lightly is not installed (pip install lightly): no ratios to it")
    return ours | rivals


def step(statistic: Statistic, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.detach().requires_grad_()
    value = statistic(z)
    (gradient,) = torch.autograd.grad(value, z)
    return value.detach(), gradient


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def errors(statistic: Statistic, z: Tensor) -> tuple[float, float]:
    """Relative errors of value and gradient against the same statistic of float64 rows."""
    value, gradient = step(statistic, z)
    exact, exact_gradient = step(statistic, z.double())
    difference = (gradient.double() - exact_gradient).norm() / exact_gradient.norm()
    return abs(value.double() - exact).item() / abs(exact.item()), difference.item()


def sample(n: int, dim: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.linspace(1.5, 0.5, dim)
    return normalize(torch.randn(n, dim, generator=generator) * spectrum).to(device)


def peak_memory(name: str, n: int, dim: int, threads: int) -> float:
    """MiB that one step adds to a warmed-up process."""
    code = [
        sys.executable,
        "-m",
        "benchmarks.discrepancies",
        "--probe",
        name,
        "--n",
        str(n),
        "--dim",
        str(dim),
        "--threads",
        str(threads),
    ]
    return float(subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()[-1])


def resident(key: str) -> int:
    """KiB from the kernel's account of this process: VmRSS now, VmHWM at its highest."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0])


def probe(name: str, n: int, dim: int) -> None:
    """Print the MiB that one step adds to this process, warmed up on a small sample (Linux)."""
    statistic = contenders(dim, "cpu", lightly="lightly" in name)[name]
    step(statistic, sample(64, dim, "cpu"))
    z = sample(n, dim, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = resident("VmRSS")
    step(statistic, z)
    print((resident("VmHWM") - before) / 1024)


def measure(n: int, dim: int, device: str, most_rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds, ratio to lightly and errors of every contender."""
    z, all_ = sample(n, dim, device), contenders(dim, device)
    best = dict.fromkeys(all_, math.inf)
    for statistic in all_.values():
        step(statistic, z)
    order, rounds = list(all_.items()), min(most_rounds, max(3, 15 * 2048 // n))
    shuffled = random.Random(0)
    for _ in range(rounds):
        # A turned order would keep the neighbours: who follows lightly finds the caches full of its temporaries.
        shuffled.shuffle(order)
        for name, statistic in order:
            synchronise(device)
            started = time.perf_counter()
            step(statistic, z)
            synchronise(device)
            best[name] = min(best[name], time.perf_counter() - started)
    reference = best.get("lightly SIGReg", math.nan)
    rows = {}
    for name, seconds in sorted(best.items(), key=lambda item: item[1]):
        # lightly draws its directions anew at each call, and a float64 Gram of the plain ones does not fit.
        exact = "lightly" not in name and (n <= 4096 or name in ("mmd-heat", "kl-vmf", "susreg"))
        value_error, gradient_error = errors(all_[name], z) if exact else (math.nan, math.nan)
        rows[name] = {
            "ms": 1e3 * seconds,
            "lightly_ratio": reference / seconds,
            "value_error": value_error,
            "gradient_error": gradient_error,
            "rounds": rounds,
        }
    return rows


def draw(table: Table, dim: int, device: str, path: Path) -> None:
    chosen = [r for r in table if (int(r["dim"]), r["device"]) == (dim, device)]
    figure, (time_axis, memory_axis) = panels(1, 2, width=4.4, height=3.4)
    for i, name in enumerate(dict.fromkeys(r["statistic"] for r in chosen)):
        rows = sorted((r for r in chosen if r["statistic"] == name), key=lambda r: int(r["n"]))
        n = [int(r["n"]) for r in rows]
        ours = " " not in name
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": "-" if ours else "--", "markersize": 4}
        time_axis.plot(n, [float(r["ms"]) for r in rows], marker=".", label=name, **style)
        memory_axis.plot(n, [max(1.0, float(r["mib"])) for r in rows], marker=".", **style)
    for axis, title in ((time_axis, "forward + backward, ms"), (memory_axis, "memory added by a step, MiB")):
        axis.set(title=title, xlabel="rows", xscale="log", yscale="log")
    figure.legend(*time_axis.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    save(figure, path)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--n", default="256,1024,2048")
    options.add_argument("--dim", default="256")
    options.add_argument("--threads", type=count, default=1)
    options.add_argument("--rounds", type=count, default=15, help="at most so many")
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--memory", action="store_true")
    options.add_argument("--records", action="store_true")
    options.add_argument("--probe", help=argparse.SUPPRESS)
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    sizes = [(int(n), int(d)) for d in a.dim.split(",") for n in a.n.split(",")]
    if a.probe:
        probe(a.probe, *sizes[0])
        return
    table = Table(RECORDS / "results.csv", KEY, VALUES)
    for n, dim in sizes:
        key = {"n": n, "dim": dim, "device": a.device}
        if a.records and key | {"statistic": "lightly SIGReg"} in table:
            continue
        print(
            f"\nn = {n}, d = {dim}, {a.device}, {a.threads} thread(s), torch {torch.__version__}, {platform.machine()}"
        )
        for name, row in measure(n, dim, a.device, a.rounds).items():
            row["mib"] = peak_memory(name, n, dim, a.threads) if a.memory else math.nan
            print(
                f"  {name:18s} {row['ms']:9.2f} ms  {row['lightly_ratio']:7.1f} x lightly  errors "
                f"{row['value_error']:.0e} {row['gradient_error']:.0e}  {row['mib']:8.1f} MiB",
                flush=True,
            )
            if a.records:
                table.append(key | {"statistic": name} | {k: f"{v:.4g}" for k, v in row.items()})
    if a.records:
        for dim in dict.fromkeys(dim for _, dim in sizes):
            draw(table, dim, a.device, RECORDS / f"{a.device}-{dim}.svg")


if __name__ == "__main__":
    main()
