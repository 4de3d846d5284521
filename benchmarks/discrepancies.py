"""How fast is a statistic of a batch? Forward and backward, against lightly's SIGReg and plain PyTorch, in one run.

    python benchmarks/discrepancies.py --n 256,1024,2048 --dim 256 --rounds 15 [--device cuda] [--memory] [--csv FILE]

Contenders are interleaved round by round; the minimum over the rounds is reported, and its ratio to lightly's
SIGReg (1024 slices, pip install lightly). ``susreg`` and ``sigreg`` use lightly's sixteen positive knots on (0, 3].
Every timed value and gradient is compared with float64 (relative error of the value, of the gradient's norm).
``--memory``: growth of the resident set over the inputs and the warmed-up process, each in a process of its own.
"""

import argparse
import csv
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from isosphere.discrepancies import KL, KSD, MMD, SIGReg, SUSReg, Uniformity
from isosphere.kernels import BandlimitedKernel, HeatKernel, VonMisesFisherKernel
from isosphere.sphere import normalize

Statistic = Callable[[Tensor], Tensor]


def plain_mmd(dim: int) -> Statistic:
    kernel = HeatKernel(dim)

    def statistic(z: Tensor) -> Tensor:
        return (kernel(z @ z.T).mean() - kernel.mean) / (1 - kernel.mean)

    return statistic


def one_line_uniformity(z: Tensor) -> Tensor:
    return torch.pdist(z).pow(2).mul(-2).exp().mean().log()


def contenders(dim: int, device: str) -> dict[str, Statistic]:
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
        __file__,
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
    statistic = contenders(dim, "cpu")[name]
    step(statistic, sample(64, dim, "cpu"))
    z = sample(n, dim, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = resident("VmRSS")
    step(statistic, z)
    print((resident("VmHWM") - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", default="256,1024,2048")
    parser.add_argument("--dim", default="256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--csv")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    sizes = [(int(n), int(d)) for d in a.dim.split(",") for n in a.n.split(",")]
    if a.probe:
        probe(a.probe, *sizes[0])
        return
    table = []
    for n, dim in sizes:
        z = sample(n, dim, a.device)
        all_ = contenders(dim, a.device)
        best = dict.fromkeys(all_, math.inf)
        for statistic in all_.values():
            step(statistic, z)
        order = list(all_.items())
        for i in range(a.rounds):
            # Turned from round to round: nobody always runs in the wake of the same neighbour.
            shift = i % len(order)
            for name, statistic in order[shift:] + order[:shift]:
                synchronise(a.device)
                started = time.perf_counter()
                step(statistic, z)
                synchronise(a.device)
                best[name] = min(best[name], time.perf_counter() - started)
        reference = best.get("lightly SIGReg", math.nan)
        print(
            f"\nn = {n}, d = {dim}, {a.device}, {a.threads} thread(s), torch {torch.__version__}, {platform.machine()}"
        )
        for name, seconds in sorted(best.items(), key=lambda item: item[1]):
            value_error, gradient_error = (
                errors(all_[name], z) if "lightly" not in name else (math.nan, math.nan)
            )
            memory = peak_memory(name, n, dim, a.threads) if a.memory else math.nan
            row = [n, dim, name, 1e3 * seconds, reference / seconds, value_error, gradient_error, memory]
            table.append(row)
            print(
                f"  {name:18s} {1e3 * seconds:9.2f} ms  {reference / seconds:7.1f} x lightly  "
                f"errors {value_error:.0e} {gradient_error:.0e}"
                + (f"  {memory:8.1f} MiB" if a.memory else "")
            )
    if a.csv:
        with open(a.csv, "w", newline="") as file:  # noqa: PTH123
            writer = csv.writer(file)
            writer.writerow(
                ["n", "dim", "statistic", "ms", "lightly_ratio", "value_error", "gradient_error", "mib"]
            )
            writer.writerows(table)


if __name__ == "__main__":
    main()
