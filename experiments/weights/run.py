"""Which weight? One row per training: data set, discrepancy, rule, budget, seed -> accuracy or recall.

    python -m experiments.weights.run --data cifar=/path/cifar10.npz --discrepancies mmd-heat,susreg \
        --rules balanced,0.05,0.9,constrained --epochs 5,50 --seeds 0

Rules: a number (that weight); ``balanced`` (the default) and ``balanced:CUTOFF``; ``expansion:R`` (weight of the
expansion ratio R); ``annealed`` (the cut-off falls from 1 to 0.25); ``constrained`` (the multiplier of D <= its value
at the cut-off 1/2, by dual ascent). Rows that are already in the file are skipped: the table grows over many calls.
"""

import itertools
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.command import count, integers, parser
from experiments.methods.cell import CLASSES, COMMON, INSTANCES, drawn, finish, read, strength
from experiments.records import Table
from isosphere import evaluate
from isosphere.methods import JEPA, balanced_weight, invariance_slope, spread_value
from isosphere.runs import RunFolder
from isosphere.training import Callback, Progress, load_config
from isosphere.workflows import prepare_training

KEY = ("data", "epochs", "discrepancy", "rule", "seed", "images", "batch", "dim")
VALUES = (
    *("weight", "r_star", "metric", "value", "low", "high", "recall_backbone"),
    *("invariance", "regulariser", "null", "seconds"),
)
METHODS = {"susreg": "sphere-jepa", "sigreg": "lejepa"}
"""What the method of a discrepancy is called, where it has a name of its own."""
SLOPE = invariance_slope(2, 0)


CUTOFFS = (1.0, 0.84, 0.71, 0.59, 0.5, 0.42, 0.35, 0.3, 0.25)
"""That the annealed rule goes through."""


def settings(rule: str) -> dict[str, Any]:
    """The keys of a training whose weight begins by this rule."""
    name, _, argument = rule.partition(":")
    cutoff = {"annealed": "1", "constrained": "0.5", "balanced": argument}.get(name)
    if cutoff is not None:
        return {"method.options": {"cutoff": float(cutoff)}} if cutoff else {}
    if name == "expansion":
        return {"method.options": {"expansion": float(argument)}}
    return {"method.weight": float(rule)}


class Follow(Callback):
    """Sets the weight of a JEPA by a rule after each step, and keeps the parts of the last ten losses."""

    def __init__(self, rule: str, method: JEPA, batch: int):
        self.rule, self.method, self.last = rule, method, list[Mapping[str, float]]()
        test = method.discrepancy
        if rule == "annealed":
            self.weights = {c: balanced_weight(test, batch, SLOPE, cutoff=c) for c in CUTOFFS}
        elif rule == "constrained":
            self.target = spread_value(test, batch, 0.5)
            self.unit = self.target - test.null(batch).mean

    def on_step(self, progress: Progress) -> None:
        self.last = [*self.last[-9:], progress.losses]
        weight = self.method.weight
        if self.rule == "annealed":
            wanted = progress.fraction * math.log(0.25)
            weight.fill_(self.weights[min(CUTOFFS, key=lambda c: abs(math.log(c) - wanted))])
        elif self.rule == "constrained":
            step = max(-1.0, min(1.0, (progress.losses["regulariser"] - self.target) / self.unit))
            odds = weight / (1 - weight) * math.exp(0.02 * step)
            weight.copy_(odds / (1 + odds))


def measure(job: dict[str, Any], spec: str, test_images: int, keys: dict[str, Any]) -> dict[str, Any]:
    """Train by a rule; k-NN where images have labels of several classes, else Recall@1."""
    batch, method = int(job["batch"]), str(job["discrepancy"])
    flags = keys | settings(str(job["rule"])) | {"method.name": METHODS.get(method, method)}
    with tempfile.TemporaryDirectory() as folder:
        training = prepare_training(load_config(flags=flags), RunFolder(Path(folder) / "run"))
        assert isinstance(training.parts.method, JEPA)
        rule = Follow(str(job["rule"]), training.parts.method, batch)
        run, summary = finish(training, [rule])
        test = drawn(spec, test_images)
        labelled = test.has_labels and len(test.class_names) > 1
        found = evaluate(run, run.images, test=test, tasks="knn" if labelled else "retrieval", progress=False)
    figures = read(found, {"knn": CLASSES["knn"]} if labelled else INSTANCES)
    column = "knn" if labelled else "recall1_head"
    rate = {
        name: figures[f"{column}{end}"] for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))
    }
    if not labelled:
        rate["recall_backbone"] = figures["recall1"]
    parts = {k: sum(p[k] for p in rule.last) / len(rule.last) for k in ("invariance", "regulariser")}
    null = training.parts.method.discrepancy.null(batch).mean
    numbers = rate | strength(run) | parts | {"null": null, "seconds": summary.seconds}
    return {"metric": "knn" if labelled else "recall@1"} | {k: f"{v:.5g}" for k, v in numbers.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--data", required=True, help="NAME=SPEC, e.g. cifar=cifar10.npz or wood=textures:wood"
    )
    options.add_argument("--recipe", default="crops")
    options.add_argument("--canvas", type=count, default=32, help="pixels of the stored images")
    options.add_argument("--size", type=count, default=32, help="pixels of a view")
    options.add_argument("--images", type=count, default=10000)
    options.add_argument("--test-images", type=count, default=10000)
    options.add_argument("--batch", type=count, default=256)
    options.add_argument("--dim", type=count, default=128)
    options.add_argument("--discrepancies", default="mmd-heat,ksd-heat,kl-vmf,susreg")
    options.add_argument("--rules", default="balanced")
    options.add_argument("--epochs", type=integers, default="5")
    options.add_argument("--seeds", type=integers, default="0")
    options.add_argument("--threads", type=count, default=1)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results.csv")
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    name, _, spec = a.data.partition("=")
    table = Table(a.out, KEY, VALUES, judged=True)
    sizes = {"images": a.images, "batch": a.batch, "dim": a.dim}
    keys = {
        **COMMON,
        **{
            "data.source": spec,
            "data.limit": a.images,
            "data.canvas_size": a.canvas,
            "data.image_size": a.size,
        },
        **{"views.recipe": a.recipe, "model.dim": a.dim, "train.batch_size": a.batch},
    }
    for epochs, seed, rule, discrepancy in itertools.product(
        a.epochs, a.seeds, a.rules.split(","), a.discrepancies.split(",")
    ):
        job = {"data": name, "epochs": epochs, "discrepancy": discrepancy, "rule": rule, "seed": seed} | sizes
        if job in table:
            continue
        found = measure(job, spec, a.test_images, keys | {"train.epochs": epochs, "train.seed": seed})
        table.append(job | found)
        print(job | found, flush=True)


if __name__ == "__main__":
    main()
