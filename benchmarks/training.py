"""How fast does it train beside lightly's own modules and transforms doing the same job?

    python -m benchmarks.training cifar10.npz                     # two CPU threads, about ten minutes
    python -m benchmarks.training cifar10.npz --batch-size 512 --steps 60 --device cuda --records

SimCLR (two views) and LeJEPA (two global views of 32 px, two local ones of 16) of a ResNet-18 with 3x3 stem on
CIFAR-10: same batch, optimiser (AdamW) and widths. Lightly: torchvision's ResNet, ``SimCLRTransform`` or
``DINOTransform`` on PIL images by a DataLoader, its projection heads, ``NTXentLoss`` or ``SIGReg``, as in its examples.
Ours: what ``isosphere train`` does, loop, logs and all. Every contender runs in every round; a figure is the median
over rounds of the mean step after the first five. Lightly's number of workers is the best of 0 to the number of cores,
found before. "At this precision" compares like with like; "free choice" the fastest of each.
"""

import argparse
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments.command import count, parser, version_of
from experiments.records import Table
from isosphere.runs import RunFolder
from isosphere.training import fit, load_config, prepare

RECORDS = Path(__file__).parent / "records" / "training" / "results.csv"
KEY = ("job", "library", "precision", "workers", "batch_size", "device", "threads")
VALUES = ("images_per_second", "low", "high", "epoch_seconds", "ratio", "outside", "versions")
WARM_UP, DIM, HIDDEN = 5, 128, 512
TEMPERATURE = 0.5


def isosphere(job: str, precision: str, a: argparse.Namespace, seed: int) -> tuple[float, float | None]:
    """Images/s, and on a CPU the share of a step outside network, loss, optimiser and views."""
    local = {"views.local_views": 2, "views.local_size": 16} if job == "lejepa" else {}
    given = {"temperature": TEMPERATURE} if job == "simclr" else {}
    flags: dict[str, Any] = {
        **{"data.source": str(a.data), "data.limit": a.steps * a.batch_size, "data.image_size": 32},
        **{"views.recipe": "lejepa" if job == "lejepa" else "crops", "model.encoder": "resnet18"},
        **{"model.dim": DIM, "model.hidden": HIDDEN, "method.name": job, "method.options": given},
        **{"train.epochs": 1, "train.batch_size": a.batch_size, "train.device": a.device, "train.seed": seed},
        **{"train.precision": precision, "train.tensorboard": False},
        # A profile waits for a GPU at every section; on a CPU it costs nothing.
        "train.profile": a.device == "cpu",
        **{"data.held_out": 2, "train.monitor": False},
        **local,
    }
    parts = prepare(load_config(flags=flags))
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run")
        summary = fit(parts.config, run, parts.method, parts.loader, parts.views, parts.fabric)
    if summary.interrupted is not None:
        raise KeyboardInterrupt  # Ctrl-C ends a training in good order; here it ends the measurement
    assert summary.step_seconds is not None
    return a.batch_size / summary.step_seconds, (summary.shares or {}).get("other")


class _Pictures(Dataset):
    """PIL images and a transform to views, as lightly's own data set gives them."""

    def __init__(self, path: Path, count: int, transform: Any):
        from PIL import Image

        with np.load(path) as arrays:
            self.images = [Image.fromarray(x) for x in arrays["x_train"][:count]]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> list[Tensor]:
        return self.transform(self.images[i])


class _Lightly(nn.Module):
    def __init__(self, job: str):
        from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]
        from lightly.loss.lejepa_loss import SIGReg  # pyright: ignore[reportMissingImports]
        from lightly.models.modules import heads  # pyright: ignore[reportMissingImports]
        from torchvision.models import resnet18

        super().__init__()
        resnet = resnet18()
        resnet.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        resnet.maxpool = nn.Identity()  # type: ignore[assignment]
        resnet.fc = nn.Identity()  # type: ignore[assignment]
        self.backbone, self.job = resnet, job
        if job == "simclr":
            self.head = heads.SimCLRProjectionHead(512, HIDDEN, DIM)
            self.criterion = NTXentLoss(temperature=TEMPERATURE)
        else:
            self.head = heads.LeJEPAProjectionHead(512, HIDDEN, DIM)
            self.criterion = SIGReg()

    def forward(self, views: list[Tensor]) -> Tensor:
        from lightly.loss.lejepa_loss import lejepa_invariance_loss  # pyright: ignore[reportMissingImports]

        z = [self.head(self.backbone(v)) for v in views]
        if self.job == "simclr":
            return self.criterion(z[0], z[1])
        everything = torch.stack(z)
        agreement = lejepa_invariance_loss(all_proj=everything, global_proj=everything[:2])
        return 0.95 * agreement + 0.05 * torch.stack([self.criterion(v) for v in z]).mean()


def lightly(job: str, precision: str, workers: int, a: argparse.Namespace, seed: int, steps: int) -> float:
    """Images/s of a loop as in lightly's examples."""
    from lightly.transforms.dino_transform import DINOTransform  # pyright: ignore[reportMissingImports]
    from lightly.transforms.simclr_transform import SimCLRTransform  # pyright: ignore[reportMissingImports]

    torch.manual_seed(seed)
    if job == "simclr":
        transform = SimCLRTransform(input_size=32, gaussian_blur=0.0)
    else:
        transform = DINOTransform(global_crop_size=32, local_crop_size=16, n_local_views=2)
    pictures = _Pictures(a.data, steps * a.batch_size, transform)
    loader = DataLoader(
        pictures,
        batch_size=a.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=a.device == "cuda",
    )
    device = torch.device(a.device)
    model = _Lightly(job).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    done, start = 0, 0.0
    for views in loader:
        if done == WARM_UP:
            start = _now(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model([v.to(device, non_blocking=True) for v in views])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        done += 1
    return (done - WARM_UP) * a.batch_size / (_now(device) - start)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def best_workers(job: str, precision: str, a: argparse.Namespace) -> int:
    counts = range((os.cpu_count() or 1) + 1) if a.workers is None else [a.workers]
    speeds = {w: lightly(job, precision, w, a, 0, WARM_UP + 4) for w in counts}
    return max(speeds, key=lambda w: speeds[w])


def contenders(a: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    for job, precision in itertools.product(a.jobs.split(","), ("float32", "bf16")):
        yield job, "isosphere", precision, 0
        if find_spec("lightly") is not None:
            yield job, "lightly", precision, best_workers(job, precision, a)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", type=Path, metavar="NPZ", help="CIFAR-10 as x_train uint8 (n, 32, 32, 3)")
    options.add_argument("--jobs", default="simclr,lejepa")
    options.add_argument("--batch-size", type=count, default=64)
    options.add_argument(
        "--steps", type=count, default=13, help=f"a run; the first {WARM_UP} are not counted"
    )
    options.add_argument("--rounds", type=count, default=3)
    options.add_argument("--threads", type=count, default=2)
    options.add_argument("--workers", type=int, help="of lightly's loader; left out: the best")
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument(
        "--records", action="store_true", help="add the rows to records/training/results.csv"
    )
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    versions = " ".join(map(version_of, ("torch", "torchvision", "timm", "lightly")))
    print(f"{versions}; {a.device}, {a.threads} threads, batch {a.batch_size}", flush=True)
    runs: dict[tuple[str, str, str, int], list[float]] = {}
    outside: dict[tuple[str, str, str, int], float] = {}
    entered = list(contenders(a))
    for seed in range(a.rounds):
        for job, library, precision, workers in entered:
            key = (job, library, precision, workers)
            if library == "isosphere":
                speed, rest = isosphere(job, precision, a, seed)
                if rest is not None:
                    outside[key] = rest
            else:
                speed = lightly(job, precision, workers, a, seed, a.steps)
            runs.setdefault(key, []).append(speed)
            print(f"  round {seed + 1}: {' '.join(map(str, key))}: {speed:.1f} images/s", flush=True)
    table = Table(RECORDS, KEY, VALUES)
    for key, speeds in runs.items():
        job, library, precision, workers = key
        middle = statistics.median(speeds)
        rival = next((k for k in runs if k[:3] == (job, "lightly", precision)), None)
        ratio = math.nan if rival is None else middle / statistics.median(runs[rival])
        beside = f"{ratio:.2f} times lightly's at this precision" if rival else "lightly is absent"
        note = (
            f", {100 * outside[key]:.1f} % of a step outside network, optimiser and views"
            if key in outside
            else ""
        )
        print(
            f"{job:8s}{library:11s}{precision:9s}{workers} workers {middle:9.1f} images/s "
            f"[{min(speeds):.1f}, {max(speeds):.1f}], an epoch of 50,000 in {50000 / middle:.0f} s, "
            f"{beside}{note}"
        )
        if a.records:
            names = dict(zip(KEY, (*key, a.batch_size, a.device, a.threads), strict=True))
            table.append(
                names
                | {
                    "images_per_second": f"{middle:.4g}",
                    "low": f"{min(speeds):.4g}",
                    "high": f"{max(speeds):.4g}",
                }
                | {"epoch_seconds": f"{50000 / middle:.4g}", "ratio": f"{ratio:.3g}" if rival else ""}
                | {"outside": f"{outside[key]:.3g}" if key in outside else "", "versions": versions}
            )
    for job in a.jobs.split(",") if find_spec("lightly") is not None else ():
        best = {
            library: max(statistics.median(v) for k, v in runs.items() if k[:2] == (job, library))
            for library in ("isosphere", "lightly")
        }
        print(f"{job}: free choice {best['isosphere'] / best['lightly']:.2f} times lightly's best")


if __name__ == "__main__":
    main()
