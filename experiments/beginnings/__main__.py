"""Why do methods that learn through a predictor end below the network that they start from, in a short training?

    python -m experiments.beginnings cifar10=/path/cifar10.npz imagenette=/path/imagenette.zip wood=textures:wood

Each arm changes one thing of BYOL or VJE, and is followed through 750 steps of batches of 50 of a small folder (2,500
images of 32 px): k-NN of the backbone, Recall@1 of the other view among 100, effective ranks of features and
embedding, the median share of a feature direction's variance that lies within images. Stated beforehand: a cause is
named where its arm is above the plain method by two standard errors of k-NN at the end on more than one set, and the
arm mends where it is above the untrained network by as much. Rows go to ``results.csv`` by (data, images, arm, seed,
step); ``--table`` prints them.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from experiments.command import integers
from experiments.methods.cell import COMMON, DATA, drawn
from experiments.methods.filling import arguments, sources
from experiments.records import Table
from experiments.verdict import Figures
from isosphere.data import load_images
from isosphere.evaluation import extract, extract_views, instance_ranks, knn
from isosphere.methods import Method
from isosphere.models import Encoder, evaluation_mode, memory_format
from isosphere.statistics import mean_cosine, rankme, within_share
from isosphere.training import Config, Parts, learning_rate_factor, load_config, open_training_source, prepare

HERE = Path(__file__).parent
KEY = ("data", "images", "batch", "arm", "seed", "steps", "step")
RATES = ("knn", "knn_low", "knn_high", "recall1", "recall1_head")
FIGURES = ("loss", *RATES, "rank", "rank_head", "within", "cosine")
Change = Callable[[Method], None]


class Arm(NamedTuple):
    """A method, its settings, a change of its networks, and learning rates of parts of it over that of the rest."""

    method: str
    options: str = ""
    change: Change | None = None
    rates: Mapping[str, float] = MappingProxyType({})


def _without_norm(method: Method) -> None:
    """Batch norm out of BYOL's predictor."""
    layers = cast(Any, method).predictor.layers
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm1d):
            layers[i] = nn.Identity()


def _norms(standardise: bool, batch_norm: bool) -> str:
    of_embedding = f"method.options.standardise={str(standardise).lower()}"
    return f"{of_embedding};method.options.batch_norm={str(batch_norm).lower()}"


PLAIN, BOTH = "method.options.standardise=false", _norms(True, True)
ARMS = {
    "byol: as printed": Arm("byol", PLAIN),
    "byol: standardised projection": Arm("byol", "method.options.standardise=true"),
    "byol: predictor at 10 times the rate": Arm("byol", PLAIN, rates={"predictor": 10}),
    "byol: encoder at a tenth of the rate": Arm("byol", PLAIN, rates={"encoder": 0.1}),
    "byol: predictor without batch norm": Arm("byol", PLAIN, _without_norm),
    "byol: memory of a tenth": Arm("byol", f"{PLAIN};method.options.memory=0.1"),
    "byol: no decay": Arm("byol", f"{PLAIN};optim.weight_decay=0"),
    "byol: warm-up of a third": Arm("byol", f"{PLAIN};optim.warmup_epochs=5"),
    "vje: both norms": Arm("vje", BOTH),
    "vje: inference network without batch norm": Arm("vje", _norms(True, False)),
    "vje: embedding not standardised": Arm("vje", _norms(False, True)),
    "vje: no batch norm": Arm("vje", _norms(False, False)),
    "vje: both norms, encoder at a tenth of the rate": Arm("vje", BOTH, rates={"encoder": 0.1}),
    "vje: both norms, inference network at 10 times the rate": Arm("vje", BOTH, rates={"head": 10}),
    "vje: both norms, product": Arm("vje", f"{BOTH};method.options.directional=student-product"),
    "vje: no batch norm, product": Arm(
        "vje", f"{_norms(False, False)};method.options.directional=student-product"
    ),
    "vje: both norms, no decay": Arm("vje", f"{BOTH};optim.weight_decay=0"),
    "vje: both norms, warm-up of a third": Arm("vje", f"{BOTH};optim.warmup_epochs=5"),
    "byol-uniformity": Arm("byol-uniformity"),
    "vje+mmd": Arm("vje+mmd"),
    "kl-vmf": Arm("kl-vmf"),
}


class Course(NamedTuple):
    """What is trained on, and for how long."""

    data: str
    spec: str
    images: int = 2500
    batch: int = 50
    steps: int = 750
    size: int = 32
    test: int = 1000


def configuration(arm: Arm, course: Course, seed: int) -> Config:
    """Settings of the command line, widths by default."""
    options = dict(item.split("=", 1) for item in arm.options.split(";") if item)
    settings = COMMON | DATA[course.data].settings
    settings |= {
        "data.limit": course.images,
        "data.image_size": course.size,
        "train.batch_size": course.batch,
    }
    made = course.spec.startswith("textures:")
    flags = {key: value for key, value in settings.items() if key not in ("model.dim", "model.hidden")} | {
        "data.source": f"{course.spec}?count={course.images}" if made else course.spec,
        "method.name": arm.method,
        "train.epochs": -(-course.steps // (course.images // course.batch)),
        "train.seed": seed,
    }
    return load_config(sets=[f"{key}={value}" for key, value in options.items()], flags=flags)


class Look:
    """The figures of a method on images that training does not see, by those that it trains on."""

    def __init__(self, parts: Parts, course: Course):
        canvas = parts.config.data.canvas_size or course.size
        self.parts, self.labelled = parts, DATA[course.data].labelled
        self.bank = load_images(open_training_source(parts.config), canvas)
        self.test = load_images(drawn(course.spec, course.test), canvas)

    def __call__(self, method: Method) -> dict[str, float]:
        with evaluation_mode(method), self.parts.fabric.autocast():
            first, second = extract_views(method.embed, self.test, self.parts.views, seed=7)[:2]
            found = self._neighbours(method) if self.labelled else {}
        features, head = (
            torch.stack([getattr(first, x), getattr(second, x)]).float() for x in ("backbone", "head")
        )
        return found | {
            "recall1": _recall(features),
            "recall1_head": _recall(head),
            "rank": rankme(features[0]).item(),
            "rank_head": rankme(head[0]).item(),
            "within": within_share(features).median().item(),
            "cosine": mean_cosine(nn.functional.normalize(features[0], dim=1)).item(),
        }

    def _neighbours(self, method: Method) -> dict[str, float]:
        encoder = cast(Encoder, method.encoder)
        view = (self.parts.config.data.image_size or 32, encoder.mean, encoder.std)
        bank, asked = (extract(method.embed, x, *view, group=False).backbone for x in (self.bank, self.test))
        found = knn(bank, self.bank.labels, asked, self.test.labels)
        return {"knn": 100 * found.value, "knn_low": 100 * found.low, "knn_high": 100 * found.high}


def _recall(pair: Tensor) -> float:
    return 100 * instance_ranks(*pair).recall(1).mean().item()


def optimizer_of(method: Method, config: Config, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """AdamW as a training has it, with another rate for some parts."""
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            scale, decays = rates.get(name.partition(".")[0], 1.0), parameter.ndim > 1
            decay = config.optim.weight_decay if decays else 0.0
            group = groups.setdefault((decays, scale), {"params": [], "weight_decay": decay, "scale": scale})
            group["params"].append(parameter)
    return torch.optim.AdamW(list(groups.values()), lr=config.optim.learning_rate)


def follow(arm: Arm, course: Course, seed: int, looks: list[int]) -> Iterator[dict[str, Any]]:
    """The figures before the first step, after these steps, and at the end."""
    parts = prepare(configuration(arm, course, seed))
    method, config, layout = parts.method.train(), parts.config, memory_format(parts.fabric.device)
    if arm.change is not None:
        arm.change(method)
    optimizer, look = optimizer_of(method, config, arm.rates), Look(parts, course)
    yield {"step": 0} | look(method)
    warmup = max(1, round(config.optim.warmup_epochs * len(parts.loader)))
    step, losses, epoch = 0, [], 0
    while step < course.steps:
        for batch in parts.loader.epoch(epoch):
            factor = learning_rate_factor(
                step / course.steps, (step + 1) / warmup, config.optim.final_fraction
            )
            for group in optimizer.param_groups:
                group["lr"] = config.optim.learning_rate * factor * group["scale"]
            views = parts.views(batch.images, index=batch.index, epoch=epoch, seed=seed)
            with parts.fabric.autocast():
                loss = method([view.contiguous(memory_format=layout) for view in views])
            loss.total.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            method.after_step(step / course.steps)
            losses.append(loss.total.item())
            if step in looks or step == course.steps:
                yield {"step": step, "loss": sum(losses) / len(losses)} | look(method)
                losses = []
            if step == course.steps:
                break
        epoch += 1


def table(rows: Table) -> Figures:
    """Where each arm stood at each look, seed by seed."""
    made = []
    for r in rows:
        rates = [f"{float(r[name]):.1f}" if r[name] else "" for name in ("knn", "recall1", "recall1_head")]
        rest = [f"{float(r['rank']):.0f}", f"{float(r['rank_head']):.0f}", f"{float(r['within']):.2f}"]
        made.append([r["arm"], r["data"], r["seed"], f"{r['step']} of {r['steps']}", *rates, *rest])
    heads = ["set", "seed", "step", "k-NN", "Recall@1", "of the head", "rank", "of the head", "within"]
    return Figures("Arms along their first steps, %", ["", *heads], made)


def main() -> None:
    options = arguments(__doc__, draw="")
    options.add_argument("--arms", default="|".join(ARMS), help="names of this file, with | between")
    for name, kind in (("images", int), ("batch", int), ("steps", int), ("size", int), ("test", int)):
        options.add_argument(f"--{name}", type=kind, default=Course._field_defaults[name])
    options.add_argument("--seeds", type=integers, default="0,1")
    options.add_argument("--looks", type=integers, default="25,100,400")
    options.add_argument("--out", type=Path, default=HERE / "results.csv")
    options.add_argument("--table", action="store_true")
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    rows = Table(a.out, KEY, FIGURES)
    if a.table:
        print("\n".join(table(rows).markdown()))
        return
    for seed in a.seeds:
        for name, spec in sources(a.data, textures=False).items():
            course = Course(name, spec, a.images, a.batch, a.steps, a.size, a.test)
            for arm in a.arms.split("|"):
                key = {
                    "data": name,
                    "images": a.images,
                    "batch": a.batch,
                    "arm": arm,
                    "seed": seed,
                    "steps": a.steps,
                }
                if key | {"step": a.steps} in rows:
                    continue
                for found in follow(ARMS[arm], course, seed, a.looks):
                    shown = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in found.items()}
                    if key | {"step": found["step"]} not in rows:
                        rows.append(key | shown)
                    print(name, arm, seed, *(f"{k} {v}" for k, v in shown.items()), flush=True)


if __name__ == "__main__":
    main()
