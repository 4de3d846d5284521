"""What a GPU makes of all this, on the day that there is one: tests, statistics and trainings, in eight minutes.

    make gpu
    python -m benchmarks.gpu [--data cifar10.npz] [--minutes 8] [--records]
    python -m benchmarks.gpu --toy                    # the same on a CPU at toy size: a rehearsal, no measurement

Once installed no network is needed; ``make gpu`` installs first and adds ``--records``. Parts, each left out in words
where the time is over; whatever was left out, failed or tested nothing is named at the end, with exit code 1:

``tests``: those of ``tests/accelerator`` on the GPU, where CUDA itself refuses that a step waits for it; half of the
time at the most.
``statistics``: forward and backward of each discrepancy (``benchmarks.discrepancies``) beside the matrix products that
it needs (the formulas of ``benchmarks.scaling``, at the rate of such products measured here), the ratio of both, and
errors against float64.
``training``: images a second of SimCLR and LeJEPA, ResNet-18 with 3x3 stem on images of 32 px (those of ``--data``, or
noise: the time is the same), batch 512, beside lightly's modules in the same process; and a step of LeJEPA by
ViT-B/14 at 224 px on views that are on the GPU already, beside the same network with lightly's head and loss.

``--records`` adds the rows with device and versions to ``records/gpu/results.csv``. Nothing has been measured yet.
"""

import argparse
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmarks import discrepancies, scaling, training
from torch import Tensor, nn

from experiments.command import number, parser, place, version_of
from experiments.records import Table, machine
from isosphere.devices import synchronize
from isosphere.methods import build_method
from isosphere.models import build_encoder
from isosphere.reductions import full_precision

RECORDS = Path(__file__).parent / "records" / "gpu" / "results.csv"
KEY = ("part", "what", "size", "device")
VALUES = ("value", "unit", "beside", "ratio", "versions")
COSTS: dict[str, Callable[[scaling.Size], scaling.Cost]] = {
    "mmd-heat": scaling.pair_sum,
    "ksd-heat": scaling.pair_sum,
    "uniformity": scaling.pair_sum,
    "kl-vmf": scaling.pair_log_sum,
    "susreg": scaling.sliced,
    "sigreg": scaling.sliced,
}


class Plan(NamedTuple):
    """Sizes of everything."""

    rows: tuple[int, ...] = (512, 4096, 16384, 65536)
    dim: int = 256
    rounds: int = 10
    batch: int = 512
    steps: int = 40
    encoder: str = "vit_base_patch14_dinov2"
    side: int = 224
    patches: int = 64
    """Images of a step of the transformer."""
    tests: str = ""


TOY = Plan((64, 96), 16, 2, 16, 9, "vit_tiny_patch16_224", 32, 4, "mmd-heat and discrepancy")


class Result(NamedTuple):
    """A figure, and what it stands beside: the products of a statistic, or lightly."""

    part: str
    what: str
    size: str
    value: float
    unit: str
    beside: float = math.nan

    @property
    def ratio(self) -> float:
        """Times as long as its products, or as fast as lightly."""
        return self.value / self.beside


class Incomplete(Exception):  # noqa: N818
    """A part that did not measure all that it is there for."""


def until(minutes: float) -> Callable[[], None]:
    """What is asked before anything long is begun. Raises: Incomplete once so many minutes are over."""
    end = time.perf_counter() + 60 * minutes

    def in_time() -> None:
        if time.perf_counter() > end:
            raise Incomplete(f"the rest is left out, {minutes:g} minutes are over (--minutes)")

    return in_time


def tests(plan: Plan, device: str, seconds: float) -> Iterator[Result]:
    """Numbers of tests that passed, failed and were skipped. Raises: Incomplete unless some passed and none failed."""
    environment = os.environ | ({"ISOSPHERE_ACCELERATOR": device} if device != "cpu" else {})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/accelerator"]
    command += ["-k", plan.tests] if plan.tests else []
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        said = late.stdout or ""  # bytes, whatever was asked for
        print((said if isinstance(said, str) else said.decode(errors="replace"))[-3000:], flush=True)
        raise Incomplete(f"they did not end within {seconds:.0f} s") from None
    if done.returncode:
        print(done.stdout[-3000:] + done.stderr[-3000:], flush=True)
    found = dict.fromkeys(("passed", "failed", "skipped", "error"), 0)
    last = done.stdout.strip().rpartition("\n")[2]
    for count, outcome in re.findall(rf"(\d+) ({'|'.join(found)})", last):
        found[outcome] = int(count)
        yield Result("tests", outcome, "", float(count), "tests")
    if done.returncode or not found["passed"]:
        said = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
        raise Incomplete(
            f"{said}, pytest's exit code {done.returncode}: no figure is to be trusted before they pass"
        )


def statistics(plan: Plan, device: str, in_time: Callable[[], None]) -> Iterator[Result]:
    """Milliseconds of each statistic and of its products; errors of value and gradient."""
    for n in plan.rows:
        in_time()
        rate = products_a_second(n, plan.dim, device)
        for name, row in measured(n, plan.dim, device, plan.rounds).items():
            cost = COSTS[name](scaling.Size(n, plan.dim, 1, 1)).products
            size = f"n = {n}, d = {plan.dim}"
            yield Result("statistics", name, size, row["ms"], "ms", 1e3 * cost / rate)
            for kind in ("value", "gradient"):
                if not math.isnan(row[f"{kind}_error"]):
                    yield Result(
                        "statistics", f"{name}, {kind}", size, row[f"{kind}_error"], "relative error"
                    )


def measured(n: int, dim: int, device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and errors of the statistics, interleaved."""
    all_ = discrepancies.contenders(dim, device, lightly=False)
    chosen = [(name, all_[name]) for name in COSTS]
    z, shuffled = discrepancies.sample(n, dim, device), random.Random(0)
    times = {name: fastest(lambda s=s: discrepancies.step(s, z), device, 1) for name, s in chosen}
    for _ in range(max(1, rounds if n <= 16384 else rounds // 3)):
        shuffled.shuffle(chosen)
        for name, statistic in chosen:
            took = fastest(lambda s=statistic: discrepancies.step(s, z), device, 1)
            times[name] = min(times[name], took)
    exact = n <= 16384
    nothing = math.nan, math.nan
    found = {name: discrepancies.errors(s, z) if exact else nothing for name, s in chosen}
    return {
        name: {"ms": 1e3 * times[name], "value_error": a, "gradient_error": b}
        for name, (a, b) in found.items()
    }


def products_a_second(n: int, dim: int, device: str) -> float:
    """Operations a second of the products of a Gram matrix and of its slopes with the rows, in float32, in blocks of
    4,096 rows.
    """
    z, block = discrepancies.sample(n, dim, device), min(n, 4096)

    def pair() -> None:
        for start in range(0, n, block):
            torch.mm(z[start : start + block] @ z.T, z)

    with full_precision(z.device):
        return 4 * n * n * dim / fastest(pair, device, 5)


def fastest(call: Callable[[], object], device: str, rounds: int) -> float:
    """Seconds of the fastest of some calls, the first of which is not counted unless it is the only one."""
    times = []
    for _ in range(rounds):
        synchronize(torch.device(device))
        start = time.perf_counter()
        call()
        synchronize(torch.device(device))
        times.append(time.perf_counter() - start)
    return min(times[1:] or times)


def resnets(plan: Plan, device: str, data: Path, in_time: Callable[[], None]) -> Iterator[Result]:
    """Images a second of ``isosphere train`` and of a loop over lightly's modules."""
    options = argparse.Namespace(data=data, steps=plan.steps, batch_size=plan.batch, device=device)
    precision = "bf16" if device == "cuda" else "float32"
    for job in ("simclr", "lejepa"):
        in_time()
        speed, _ = training.isosphere(job, precision, options, 0)
        rival = math.nan
        if find_spec("lightly") is not None:
            workers = min(16, os.cpu_count() or 1)
            rival = training.lightly(job, precision, workers, options, 0, plan.steps)
        size = f"batch {plan.batch}, 32 px, {precision}"
        yield Result("training", f"{job}, resnet18", size, speed, "images/s", rival)


def transformers(plan: Plan, device: str) -> Iterator[Result]:
    """Images a second of a step of LeJEPA on two views that are there: network, loss and optimiser alone."""
    place = torch.device(device)
    views = [torch.randn(plan.patches, 3, plan.side, plan.side, device=device) for _ in range(2)]
    ours = build_method("lejepa", build_encoder(plan.encoder, image_size=plan.side), dim=64)
    ours = ours.to(place).prepare(n=plan.patches, views=2).train()
    speed = images_a_second(lambda: ours(views).total, ours, plan, device)
    rival = math.nan
    if find_spec("lightly") is not None:
        theirs = _Rival(build_encoder(plan.encoder, image_size=plan.side)).to(place).train()
        rival = images_a_second(lambda: theirs(views), theirs, plan, device)
    size = f"batch {plan.patches}, {plan.side} px, bf16"
    yield Result("training", f"lejepa, {plan.encoder}", size, speed, "images/s", rival)


class _Rival(nn.Module):
    """The same network with lightly's head and loss."""

    def __init__(self, encoder: Any):
        from lightly.loss.lejepa_loss import (  # pyright: ignore[reportMissingImports]
            SIGReg,
            lejepa_invariance_loss,
        )
        from lightly.models.modules import heads  # pyright: ignore[reportMissingImports]

        super().__init__()
        self.encoder, self.agree = encoder, lejepa_invariance_loss
        self.head = heads.LeJEPAProjectionHead(encoder.feature_dim, 2048, 64)
        self.criterion = SIGReg()

    def forward(self, views: list[Tensor]) -> Tensor:
        z = self.head(self.encoder(torch.cat(views))).unflatten(0, (len(views), -1))
        agreement = self.agree(all_proj=z, global_proj=z)
        return 0.95 * agreement + 0.05 * torch.stack([self.criterion(v) for v in z]).mean()


def images_a_second(loss: Callable[[], Tensor], model: nn.Module, plan: Plan, device: str) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    place, start = torch.device(device), 0.0
    for step in range(plan.steps):
        if step == training.WARM_UP:
            synchronize(place)
            start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    synchronize(place)
    return (plan.steps - training.WARM_UP) * plan.patches / (time.perf_counter() - start)


def unusable(path: Path) -> str | None:
    """Why trainings cannot take their images from a file."""
    try:
        with np.load(path) as arrays:
            images = arrays["x_train"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        return f"x_train is {images.dtype} {images.shape}"
    return None


@contextmanager
def pictures(given: Path | None, count: int) -> Iterator[Path]:
    """Images of 32 px as an .npz: those that are given, or so many of noise."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, x_train=np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
        yield path


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, metavar="NPZ", help="x_train uint8 (n, 32, 32, 3); else noise")
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options.add_argument("--minutes", type=number, default=8.0)
    options.add_argument("--toy", action="store_true", help="on a CPU at toy size: a rehearsal")
    options.add_argument("--records", action="store_true", help=f"add the rows to {RECORDS.name}")
    a = options.parse_args()
    if a.data is not None and (lacking := unusable(a.data)):
        options.error(f"--data {a.data}: {lacking}; expected an .npz with x_train, uint8 (n, 32, 32, 3)")
    plan, device = (TOY, "cpu") if a.toy else (Plan(), a.device)
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no GPU here: --toy rehearses the same on a CPU.")
    in_time = until(a.minutes)
    versions = " ".join(map(version_of, ("torch", "triton", "torchvision", "timm", "lightly")))
    name = place(device, toy=a.toy)
    print(f"{versions}; {name}", flush=True)
    if find_spec("lightly") is None:
        print("lightly is not installed: trainings are timed alone (pip install -e '.[bench]')", flush=True)
    table, lacking = Table(RECORDS, KEY, VALUES), []
    with pictures(a.data, plan.batch * plan.steps + 16) as data:
        parts: dict[str, Callable[[], Iterator[Result]]] = {
            "tests": lambda: tests(plan, device, 30 * a.minutes),
            "statistics": lambda: statistics(plan, device, in_time),
            "training, ResNet-18": lambda: resnets(plan, device, data, in_time),
            "training, transformer": lambda: transformers(plan, device),
        }
        for part, run in parts.items():
            print(f"{part}:", flush=True)
            try:
                in_time()
                for row in run():
                    print(f"  {shown(row)}", flush=True)
                    if a.records:
                        by = {"device": name, "machine": machine(device), "versions": versions}
                        table.append(row._asdict() | {"ratio": f"{row.ratio:.4g}"} | by)
            except Incomplete as error:
                lacking.append(f"{part}: {error}")
            except KeyboardInterrupt:
                print("Stopped before the end.", file=sys.stderr)
                raise SystemExit(130) from None
            except Exception as error:  # one part that fails costs no other
                traceback.print_exc()
                lacking.append(f"{part}: {type(error).__name__}: {error}")
    if lacking:
        raise SystemExit("Not all is there:\n" + "\n".join(lacking))


def shown(row: Result) -> str:
    beside = "" if math.isnan(row.beside) else f"  beside {row.beside:,.4g}: {row.ratio:.2f} times"
    return f"{row.what:28s} {row.size:24s} {row.value:12,.4g} {row.unit}{beside}"


if __name__ == "__main__":
    main()
