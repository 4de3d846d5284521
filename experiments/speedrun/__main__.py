"""How many seconds until a network trained without labels names CIFAR-10 as well as k-NN .848?

    python -m experiments.speedrun cifar10.npz [--target .848] [--epochs 100] [--method kl-vmf]
    python -m experiments.speedrun --toy              # textures on a CPU: a rehearsal, no measurement

``cifar10.npz``: arrays ``x_train``, ``x_test`` uint8 ``(n, 32, 32, 3)`` and ``y_train``, ``y_test``, or any DATA of
``isosphere train`` with classes and a test part.

ResNet-18 with 3x3 stem by the preset of the method, batch 512. After every few epochs all training images vote by the
20 nearest neighbours of the backbone's features (cosine, temperature .07) on each test image; at the target the run
ends. Printed are the seconds of training, from before the first step, and beside them those of these looks, which are
not counted; a run that ends below the target says so. ``--records`` adds a row to ``results.csv``. Whether 100 epochs
reach .848 has not been tried: no GPU was there.

The schedule of the learning rate ends with ``--epochs``: fewer of them get there sooner, or not at all.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from experiments.command import count, parser, place, share
from experiments.records import Table, machine
from isosphere.data import ImageSet, load_images, open_source
from isosphere.devices import synchronize
from isosphere.errors import IsosphereError, UsageError, for_a_shell, printable
from isosphere.evaluation import extract, knn
from isosphere.methods import Method
from isosphere.runs import RunFolder
from isosphere.training import Callback, ConsoleReporter, Progress, fit, load_config, prepare

RECORDS = Path(__file__).parent / "results.csv"
KEY = ("data", "device", "method", "target", "epochs", "batch_size", "seed")
VALUES = ("seconds", "looking", "epoch", "knn")
TOY = "textures:all?count=120&test=60&size=16"


class Looks:
    """k-NN accuracy of test images, all training images voting; the seconds that this took."""

    def __init__(self, train: ImageSet, test: ImageSet, size: int) -> None:
        self.train, self.test, self.size, self.seconds = train, test, size, 0.0

    def __call__(self, method: Method) -> dict[str, float]:
        encoder: Any = method.encoder
        place = next(encoder.parameters()).device
        synchronize(place)
        begun = time.perf_counter()
        view = (self.size, encoder.mean, encoder.std)
        train, test = (
            extract(method.embed, part, *view, batch_size=512, group=False).backbone.to(place)
            for part in (self.train, self.test)
        )
        found = knn(train, self.train.labels, test, self.test.labels).value
        self.seconds += time.perf_counter() - begun
        return {"knn": found}


class Until(Callback):
    """Stops a training at an accuracy."""

    def __init__(self, target: float) -> None:
        self.target, self.last = target, 0.0

    def on_epoch(self, progress: Progress) -> bool:
        self.last = progress.metrics.get("knn", 0.0)
        return self.last >= self.target


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="?", help="CIFAR-10 with labels and a test part")
    options.add_argument("--target", type=share, default=0.848)
    options.add_argument("--method", default="kl-vmf", help="lejepa, sphere-jepa, mmd-heat or kl-vmf")
    options.add_argument("--epochs", type=count, default=100)
    options.add_argument("--batch-size", type=count, help="default: 512, at toy size 40")
    options.add_argument("--every", type=count, default=5, help="epochs between two looks")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    options.add_argument("--toy", action="store_true", help="textures on a CPU: a rehearsal")
    options.add_argument("--records", action="store_true", help=f"add a row to {RECORDS.name}")
    a = options.parse_args()
    if (a.data is None) == (not a.toy):
        options.error("give either the images of CIFAR-10 or --toy")
    if a.device == "cuda" and not torch.cuda.is_available():
        options.error(f"--device cuda: torch {torch.__version__} finds no GPU here; --toy rehearses on a CPU")
    try:
        with for_a_shell():
            run(a)
    except IsosphereError as error:
        raise SystemExit(printable(str(error), lines=True)) from None
    except KeyboardInterrupt:
        print("Stopped before the end: nothing is recorded.", file=sys.stderr)
        raise SystemExit(130) from None


def run(a: argparse.Namespace) -> None:
    """Train until the target and say how long it took. Raises: IsosphereError in words."""
    data = TOY if a.toy else a.data
    _check(data)
    flags: dict[str, Any] = {
        **{"data.source": data, "train.epochs": a.epochs, "train.seed": a.seed},
        **{"train.batch_size": a.batch_size or (40 if a.toy else 512)},
        **{"train.device": a.device, "train.knn_epochs": a.every, "train.monitor": False, "data.held_out": 2},
        **{"train.tensorboard": False, "train.compile": "auto"},
    }
    if a.toy:
        flags |= {"train.device": "cpu"}
        flags |= {
            "model.encoder": "small-conv",
            "model.hidden": 32,
            "model.dim": 16,
            "train.precision": "float32",
        }
        flags |= {
            "data.image_size": 16,
            "data.canvas_size": 16,
            "views.recipe": "crops",
            "method.name": a.method,
        }
    parts = prepare(load_config(flags=flags, preset=None if a.toy else f"cifar10-{a.method}"))
    if not isinstance(parts.images, ImageSet) or parts.test is None:
        raise UsageError(
            f"{data}: got pictures of several shapes or more than memory holds, expected CIFAR-10's"
        )
    size = parts.config.data.canvas_size or 32
    looks = Looks(parts.images, load_images(parts.test, size), parts.config.data.image_size or 32)
    until = Until(a.target)
    with tempfile.TemporaryDirectory() as folder:
        made = RunFolder.create(Path(folder) / "run")
        ui = ConsoleReporter(Console(stderr=True))
        given = parts.config, made, parts.method, parts.loader, parts.views, parts.fabric
        done = fit(*given, probe=looks, callbacks=until, ui=ui, facts=parts.identity)
    if done.interrupted is not None:
        raise KeyboardInterrupt  # what has not run to its end is no row
    device, seconds = place(parts.fabric.device, toy=a.toy), done.seconds - looks.seconds
    how = "reached" if until.last >= a.target else f"ended below {a.target:g} with"
    print(
        f"{a.method} {how} k-NN {until.last:.3f} after {done.epochs:g} epochs: {seconds:.1f} s of training, and "
        f"{looks.seconds:.1f} s of looks beside it, on {device}"
    )
    if a.records:
        row = {"data": data, "device": device, "method": a.method, "target": a.target, "epochs": a.epochs}
        row |= {"batch_size": parts.config.train.batch_size, "seed": a.seed}
        row |= {"seconds": f"{seconds:.1f}", "looking": f"{looks.seconds:.1f}", "epoch": f"{done.epochs:g}"}
        row |= {"knn": f"{until.last:.4f}", "machine": machine(parts.fabric.device)}
        Table(RECORDS, KEY, VALUES).append(row)


def _check(data: str) -> None:
    """Refuse images whose neighbours cannot vote. Raises: UsageError."""
    train = open_source(data)
    lacking = "test part" if not train.has_test_split else "labels" if not train.has_labels else None
    if lacking is None and not open_source(data, split="test").has_labels:
        lacking = "labels of the test part"
    if lacking is not None:
        raise UsageError(
            f"{data}: got images without {lacking}, expected CIFAR-10 with labels and a test part."
        )


if __name__ == "__main__":
    main()
