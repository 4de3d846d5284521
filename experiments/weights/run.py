"""Which weight? One row per training: data set, discrepancy, rule, budget, seed -> accuracy or recall.

    python experiments/weights/run.py --data cifar=/path/cifar10.npz --discrepancies mmd-heat,susreg \
        --rules balanced,0.05,0.9,constrained --epochs 5,50 --seeds 0 --out experiments/weights/results.csv

Rules: a number (that weight); ``balanced`` (the default) and ``balanced:CUTOFF``; ``expansion:R`` (weight of the
expansion ratio R); ``annealed`` (the cut-off falls from 1 to 0.25); ``constrained`` (the multiplier of D <= its value
at the cut-off 1/2, by dual ascent). Rows that are already in the file are skipped: the table grows over many calls.
"""

import argparse
import csv
import itertools
import math
import platform
import subprocess
import time
from pathlib import Path

import torch

from isosphere.data import Loader, Views, load_images, open_source, recipe
from isosphere.discrepancies import build_discrepancy
from isosphere.evaluation import extract, extract_views, instance_retrieval, knn
from isosphere.methods import (
    JEPA,
    balanced_weight,
    expansion_ratio,
    invariance_slope,
    spread_value,
    weight_of_expansion,
)
from isosphere.models import MLPHead, build_encoder

COLUMNS = [
    *("data", "epochs", "discrepancy", "rule", "seed", "images", "batch", "dim", "weight", "r_star"),
    *("metric", "value", "low", "high", "recall_backbone", "invariance", "regulariser", "null", "seconds"),
    *("commit", "machine", "torch"),
]
KEY = ("data", "epochs", "discrepancy", "rule", "seed", "images", "batch", "dim")


class Weight:
    """A rule for the weight of a JEPA, as a function of training progress and of the regulariser's value."""

    def __init__(self, rule: str, discrepancy, n: int, slope: float):
        name, _, argument = rule.partition(":")
        self.name, self.discrepancy, self.n, self.slope = name, discrepancy, n, slope
        if name == "balanced":
            self.weight = self.at(float(argument) if argument else None)
        elif name == "expansion":
            self.weight = weight_of_expansion(discrepancy, float(argument), n, slope)
        elif name == "annealed":
            self.ends = math.log(1.0), math.log(0.25)
            self.grid = {c: self.at(c) for c in (1.0, 0.84, 0.71, 0.59, 0.5, 0.42, 0.35, 0.3, 0.25)}
            self.weight = self.grid[1.0]
        elif name == "constrained":
            self.weight = self.at(0.5)
            uniform = discrepancy.null(n).mean
            self.target = spread_value(discrepancy, n, 0.5)
            self.unit = self.target - uniform
        else:
            self.weight = float(rule)

    def at(self, cutoff: float | None) -> float:
        return balanced_weight(self.discrepancy, self.n, self.slope, cutoff=cutoff)

    def update(self, progress: float, regulariser: float) -> float:
        if self.name == "annealed":
            wanted = (1 - progress) * self.ends[0] + progress * self.ends[1]
            self.weight = self.grid[min(self.grid, key=lambda c: abs(math.log(c) - wanted))]
        elif self.name == "constrained":
            step = max(-1.0, min(1.0, (regulariser - self.target) / self.unit))
            odds = self.weight / (1 - self.weight) * math.exp(0.02 * step)
            self.weight = odds / (1 + odds)
        return self.weight


def train(job: dict, train_set, test_set, recipe_name: str, size: int, batch: int, dim: int) -> dict:
    torch.manual_seed(job["seed"])
    epochs, seed = job["epochs"], job["seed"]
    encoder = build_encoder("small-conv", image_size=size).to(memory_format=torch.channels_last)
    discrepancy = build_discrepancy(job["discrepancy"], dim)
    slope = invariance_slope(2, 0)
    rule = Weight(job["rule"], discrepancy, batch, slope)
    method = JEPA(encoder, MLPHead(encoder.feature_dim, dim, 1024), discrepancy, weight=rule.weight)
    loader = Loader(train_set, batch_size=batch, seed=seed)
    views = Views(recipe(recipe_name, size))
    decayed = [p for p in method.parameters() if p.ndim > 1]
    others = [p for p in method.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=2e-3,
        fused=True,
    )
    steps = epochs * len(loader)
    warmup = max(1, min(steps // 10, 2 * len(loader)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(
            (s + 1) / warmup, 0.5 * (1 + math.cos(math.pi * max(0, s - warmup) / max(1, steps - warmup)))
        ),
    )
    started, step, tail = time.perf_counter(), 0, []
    for epoch in range(epochs):
        for batch_images in loader.epoch(epoch):
            seen = views(batch_images.images, index=batch_images.index, epoch=epoch, seed=seed)
            seen = [v.to(memory_format=torch.channels_last) for v in seen]
            with torch.autocast("cpu", torch.bfloat16):
                loss = method(seen)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            schedule.step()
            step += 1
            method.after_step(step / steps)
            parts = {k: v.item() for k, v in loss.parts.items()}
            method.weight.fill_(rule.update(step / steps, parts["regulariser"]))
            tail = [*tail[-9:], parts]
    seconds = time.perf_counter() - started
    row = evaluate(method, train_set, test_set, views, size)
    return row | {
        "weight": f"{rule.weight:.5g}",
        "r_star": f"{expansion_ratio(discrepancy, rule.weight, batch, slope):.4g}",
        "invariance": f"{sum(p['invariance'] for p in tail) / len(tail):.4f}",
        "regulariser": f"{sum(p['regulariser'] for p in tail) / len(tail):.5f}",
        "null": f"{discrepancy.null(batch).mean:.5f}",
        "seconds": f"{seconds:.1f}",
    }


def evaluate(method, train_set, test_set, views, size: int) -> dict:
    if train_set.has_labels and len(train_set.class_names) > 1:
        mean, std = method.encoder.mean, method.encoder.std
        a = extract(method.embed, train_set, size, mean, std, autocast=torch.bfloat16)
        b = extract(method.embed, test_set, size, mean, std, autocast=torch.bfloat16)
        result = knn(a.backbone, train_set.labels, b.backbone, test_set.labels, k=20)
        metric, backbone = "knn", None
    else:
        first, second = extract_views(method.embed, test_set, views, seed=12345, autocast=torch.bfloat16)[:2]
        result = instance_retrieval(first.head, second.head)["recall@1"]
        backbone = instance_retrieval(first.backbone, second.backbone)["recall@1"].value
        metric = "recall@1"
    return {
        "metric": metric,
        "value": f"{100 * result.value:.2f}",
        "low": f"{100 * result.low:.2f}",
        "high": f"{100 * result.high:.2f}",
        "recall_backbone": "" if backbone is None else f"{100 * backbone:.2f}",
    }


def data_sets(name: str, spec: str, limit: int, size: int, test: int):
    wanted = "train", "test"
    train_source, test_source = (open_source(spec, split=s) for s in wanted)
    order = torch.randperm(len(train_source), generator=torch.Generator().manual_seed(0)).numpy()
    order_test = torch.randperm(len(test_source), generator=torch.Generator().manual_seed(0)).numpy()
    return (
        load_images(train_source.subset(order[:limit]), size),
        load_images(test_source.subset(order_test[:test]), size),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, help="NAME=SPEC, e.g. cifar=cifar10.npz or wood=textures:wood"
    )
    parser.add_argument("--recipe", default="crops")
    parser.add_argument("--canvas", type=int, default=32, help="pixels of the stored images")
    parser.add_argument("--size", type=int, default=32, help="pixels of a view")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--test-images", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--discrepancies", default="mmd-heat,ksd-heat,kl-vmf,susreg")
    parser.add_argument("--rules", default="balanced")
    parser.add_argument("--epochs", default="5")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.csv")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    name, _, spec = a.data.partition("=")
    train_set, test_set = data_sets(name, spec, a.images, a.canvas, a.test_images)
    done = set()
    if a.out.exists():
        with a.out.open() as file:
            done = {tuple(row[k] for k in KEY) for row in csv.DictReader(file)}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    constant = {
        "images": len(train_set),
        "batch": a.batch,
        "dim": a.dim,
        "commit": commit,
        "machine": f"{platform.machine()} {a.threads} thread(s)",
        "torch": torch.__version__,
    }
    epochs = [int(e) for e in a.epochs.split(",")]
    seeds = [int(s) for s in a.seeds.split(",")]
    for e, seed, rule, discrepancy in itertools.product(
        epochs, seeds, a.rules.split(","), a.discrepancies.split(",")
    ):
        job = {"data": name, "epochs": e, "discrepancy": discrepancy, "rule": rule, "seed": seed} | constant
        if tuple(str(job[k]) for k in KEY) in done:
            continue
        row = job | train(job, train_set, test_set, a.recipe, a.size, a.batch, a.dim)
        fresh = not a.out.exists()
        with a.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        print({k: row[k] for k in COLUMNS[:-3]}, flush=True)


if __name__ == "__main__":
    main()
