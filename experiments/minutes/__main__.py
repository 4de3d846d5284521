"""How well does an encoder name CIFAR-10 after 2, 5, 10 and 20 minutes of two CPU cores, trained without labels?

    pip install lightly
    python -m experiments.minutes cifar10.npz [--minutes 2,5,10,20] [--arms ARM,...] [--judge test]
    python -m experiments.minutes --toy             # textures for seconds: a rehearsal, no measurement

``cifar10.npz``: arrays ``x_train``, ``x_test`` uint8 ``(n, 32, 32, 3)`` and ``y_train``, ``y_test``.

A training for each number of minutes: its schedule ends with them. All arms have the encoder ``small-conv``, heads of
as many numbers, AdamW at the same rate, warmed up over the first twentieth of the time and annealed to zero by a
cosine. ``ours`` is ``isosphere train``
with its defaults, ``progressive`` the same with views that grow. Lightly's arms are its transforms on PIL images, its
heads and its losses, with a loader in as many processes as there are threads beside the one that trains.

k-NN: 20 neighbours (cosine, temperature .07) among the images of the training vote by the backbone's features.
Choices are made with ``--judge held-out`` (the default): 5,000 training images, drawn by a fixed seed, that no arm
trains on. With ``--judge test`` all training images are trained on and the test images judged, once, at the end.
``knn_views``: features are means over 5 looks at an image (``--passes``), of our arms. ``cpu_seconds`` are of all
processes; ``images`` counts those that were drawn, two views each.
"""

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import isosphere
from experiments.command import count, number, parser
from experiments.records import Table
from isosphere.data import IMAGENET_MEAN, IMAGENET_STD, recipe
from isosphere.evaluation import knn_predict
from isosphere.models import build_encoder
from isosphere.training import learning_rate_factor

RESULTS = Path(__file__).parent / "results.csv"
KEY = ("data", "arm", "minutes", "seed", "judge", "threads", "precision")
VALUES = ("knn", "knn_views", "cpu_seconds", "images")
HELD_OUT, PASSES, RATE, WARM_UP = 5000, 5, 2e-3, 0.05
BATCH, DIM, HIDDEN = 128, 128, 1024
OURS: dict[str, dict[str, Any]] = {"ours": {}, "progressive": {"views.progressive": True}}
LIGHTLY = ("lightly-simclr", "lightly-vicreg", "lightly-byol")


class Images(NamedTuple):
    """Images that are trained on, and those that are judged, uint8 ``(n, h, w, 3)``, with their classes."""

    name: str
    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    judged: NDArray[np.uint8]
    classes: NDArray[np.int64]


class Trained(NamedTuple):
    """Features of images by the looks that are taken of each, and how many images were drawn."""

    features: Callable[[NDArray[np.uint8], int], Tensor]
    passes: tuple[int, ...]
    drawn: int
    precision: str


def ours(arm: str, images: Images, minutes: float, a: argparse.Namespace, seed: int) -> Trained:
    settings = {
        **{
            "model.encoder": "small-conv",
            "model.dim": DIM,
            "model.hidden": HIDDEN,
            "train.batch_size": BATCH,
        },
        **{"optim.learning_rate": RATE, "train.threads": a.threads, "train.tensorboard": False},
        **{
            "train.precision": a.precision,
            "train.monitor": False,
            "train.knn_epochs": 0,
            "views.recipe": "crops",
        },
        **{"data.held_out": 2, "train.load_best": False},
        **OURS[arm],
    }
    with tempfile.TemporaryDirectory() as folder:
        run = isosphere.train(
            images.x, Path(folder) / "run", minutes=minutes, image_size=images.x.shape[1], seed=seed,
            device="cpu", set=settings, progress=False,
        )  # fmt: skip
        drawn = int(isosphere.runs.read_metrics(run.folder.metrics)[-1]["step"]) * BATCH

    def features(some: NDArray[np.uint8], passes: int) -> Tensor:
        return torch.as_tensor(run.looking(passes).embed(some, layer="backbone"))

    return Trained(features, (1, PASSES), drawn, run.config.train.precision)


class Pictures(Dataset):
    """PIL images and a transform to views, as lightly's own data set gives them."""

    def __init__(self, images: NDArray[np.uint8], transform: Any):
        from PIL import Image

        self.images, self.transform = [Image.fromarray(x) for x in images], transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> list[Tensor]:
        return self.transform(self.images[i])[:2]


class Lightly(nn.Module):
    """One of lightly's methods around our encoder, as its examples put them together."""

    def __init__(self, method: str, side: int):
        from lightly import loss  # pyright: ignore[reportMissingImports]
        from lightly.models import utils  # pyright: ignore[reportMissingImports]
        from lightly.models.modules import heads  # pyright: ignore[reportMissingImports]

        super().__init__()
        self.method, self.encoder = method, build_encoder("small-conv", image_size=side)
        width = self.encoder.feature_dim
        if method == "byol":
            self.head, self.predictor = (
                heads.BYOLProjectionHead(width, HIDDEN, DIM), heads.BYOLPredictionHead(DIM, HIDDEN, DIM),
            )  # fmt: skip
            self.criterion, self.follow = loss.NegativeCosineSimilarity(), utils.update_momentum
            self.teacher = nn.ModuleList([build_encoder("small-conv", image_size=side)])
            self.teacher.append(heads.BYOLProjectionHead(width, HIDDEN, DIM))
            self._follow(0.0)
            self.teacher.requires_grad_(False)
        elif method == "vicreg":
            self.head, self.criterion = heads.VICRegProjectionHead(width, HIDDEN, DIM), loss.VICRegLoss()
        else:
            self.head = heads.SimCLRProjectionHead(width, HIDDEN, DIM)
            self.criterion = loss.NTXentLoss(temperature=0.5)

    def forward(self, views: list[Tensor]) -> Tensor:
        z = [self.head(self.encoder(view)) for view in views]
        if self.method != "byol":
            return self.criterion(z[0], z[1])
        encoder, head = self.teacher
        with torch.no_grad():
            targets = [head(encoder(view)) for view in views]
        first, second = (
            self.criterion(self.predictor(z[0]), targets[1]),
            self.criterion(self.predictor(z[1]), targets[0]),
        )
        return (first + second) / 2

    def after_step(self, progress: float) -> None:
        if self.method == "byol":
            self._follow(1 - (1 - 0.99) * (math.cos(math.pi * progress) + 1) / 2)

    def _follow(self, momentum: float) -> None:
        for own, theirs in zip((self.encoder, self.head), self.teacher, strict=True):
            self.follow(own, theirs, momentum)


def lightly(arm: str, images: Images, minutes: float, a: argparse.Namespace, seed: int) -> Trained:
    from lightly.transforms.simclr_transform import SimCLRTransform  # pyright: ignore[reportMissingImports]

    torch.manual_seed(seed)
    side, law = images.x.shape[1], recipe("crops", images.x.shape[1])
    given = {"gaussian_blur": 0.0, "min_scale": law.scale[0], "cj_strength": 0.5}
    pictures = Pictures(images.x, SimCLRTransform(input_size=side, **given))
    workers = a.threads - 1
    loader = DataLoader(
        pictures, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    model = Lightly(arm.partition("-")[2], side)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.05
    )
    drawn, begun = 0, time.monotonic()
    while (progress := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for views in loader:
            progress = min(1.0, (time.monotonic() - begun) / (60 * minutes))
            if progress == 1:
                break
            optimizer.param_groups[0]["lr"] = RATE * learning_rate_factor(progress, progress / WARM_UP, 0.0)
            with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"):
                loss = model(views)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            model.after_step(progress)
            drawn += BATCH

    @torch.no_grad()
    def features(some: NDArray[np.uint8], passes: int) -> Tensor:
        model.eval()
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
        x = torch.from_numpy(some).permute(0, 3, 1, 2)
        return torch.cat([model.encoder((part / 255 - mean) / std) for part in x.split(500)])

    return Trained(features, (1,), drawn, a.precision)


def judged(trained: Trained, images: Images) -> dict[str, float]:
    """k-NN in percent, by one look at each image and by the mean of several."""
    found = {}
    for name, passes in zip(("knn", "knn_views"), trained.passes, strict=False):
        bank, asked = (trained.features(x, passes) for x in (images.x, images.judged))
        said = knn_predict(functional.normalize(bank, dim=1), torch.from_numpy(images.y), asked, k=20)
        found[name] = 100 * (said == torch.from_numpy(images.classes)).double().mean().item()
    return found


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def opened(a: argparse.Namespace) -> Images:
    if a.toy:
        rng = np.random.default_rng(0)
        y = np.arange(600) % 2
        x = (rng.integers(0, 120, (600, 16, 16, 3)) + 100 * y[:, None, None, None]).astype(np.uint8)
        return Images("toy", x[:500], y[:500], x[500:], y[500:])
    with np.load(a.data) as arrays:
        x, y = arrays["x_train"], arrays["y_train"].astype(np.int64)
        if a.judge == "test":
            return Images("cifar10", x, y, arrays["x_test"], arrays["y_test"].astype(np.int64))
    order = np.random.default_rng(7).permutation(len(x))
    some, rest = order[:HELD_OUT], order[HELD_OUT:]
    return Images("cifar10", x[rest], y[rest], x[some], y[some])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="?", type=Path, help="CIFAR-10 as .npz")
    options.add_argument("--minutes", type=lambda text: [number(each) for each in text.split(",")])
    options.add_argument("--arms", default=",".join((*OURS, *LIGHTLY)))
    options.add_argument("--judge", default="held-out", choices=["held-out", "test"])
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=count, default=2)
    options.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    options.add_argument("--toy", action="store_true", help="noise of two colours for seconds: a rehearsal")
    options.add_argument("--out", type=Path, default=RESULTS)
    a = options.parse_args()
    if (a.data is None) == (not a.toy):
        options.error("give either the images of CIFAR-10 or --toy")
    arms = a.arms.split(",")
    if strange := set(arms) - {*OURS, *LIGHTLY}:
        options.error(f"--arms: got {', '.join(strange)}, expected some of {', '.join((*OURS, *LIGHTLY))}")
    torch.set_num_threads(a.threads)
    images, table = opened(a), Table(a.out, KEY, VALUES)
    for minutes in a.minutes or ([0.03] if a.toy else [2, 5, 10, 20]):
        for arm in arms:
            key = {"data": images.name, "arm": arm, "minutes": f"{minutes:g}", "seed": a.seed}
            key |= {"judge": a.judge, "threads": a.threads, "precision": a.precision}
            if key in table:
                continue
            before = cpu_seconds()
            trained = (ours if arm in OURS else lightly)(arm, images, minutes, a, a.seed)
            row = {"cpu_seconds": f"{cpu_seconds() - before:.0f}", "images": trained.drawn}
            row |= {name: f"{value:.2f}" for name, value in judged(trained, images).items()}
            if not a.toy:
                table.append(key | row)
            print(f"{arm}, {minutes:g} min: {row}", flush=True)


if __name__ == "__main__":
    main()
