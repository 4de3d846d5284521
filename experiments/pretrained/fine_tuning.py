"""A training that begins with given weights: which figure without labels tells whether it has done harm?

    python -m experiments.pretrained.fine_tuning dtd10=PATH galaxies=PATH --weights FILE --methods kl-vmf,byol \
        --variants careful,former --seeds 0 --size 64
    python -m experiments.pretrained.fine_tuning --rules

Question: of the weights that a training from a pretrained network leaves (its start, every epoch, mixtures of start
and end), which should the run end with, chosen from two fixed views of images that are held out, without a label?
Figures: two-view Recall@1 of the backbone, the share of the start's 20 nearest neighbours that stay, effective rank,
alignment of the views. What decides, stated before the first row: a rule is admitted only if the k-NN of what it
chooses is in no training more than one standard error (paired, over the test images) below the start's; among the
admitted the one with the smallest mean regret against the k-NN that labels would have chosen. "Always the start" is
the rule to beat, and is taken if none beats it by more than the standard error over trainings.

Variants: ``careful``, what ``train --init`` does; ``former``, what it did before: batch norm in training mode, one
learning rate of 1e-3 for all, no epochs for the head alone. Weights: those of the package efficientnet-lite0-pytorch-
model, whose tensors are timm's tf_efficientnet_lite0's in order. A row for each of the weights; rows that are there
are skipped.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import timm
import torch
from torch import Tensor

from experiments.command import count, integers, parser
from experiments.records import Table
from isosphere.data import load_images, open_source, permutation
from isosphere.evaluation import extract, knn_predict
from isosphere.runs import RunFolder
from isosphere.statistics import alignment, neighbours_kept, rankme, two_view_hits
from isosphere.training import fit, load_config, prepare
from isosphere.training._beginning import Beginning, put, tensors_of

ENCODER = "tf_efficientnet_lite0"
KEY = ("data", "method", "variant", "seed", "size", "weights")
VALUES = (
    *("images", "held_out", "knn", "knn_gain", "knn_gain_se"),
    *("recall", "recall_gain", "recall_gain_se", "kept", "rank", "alignment", "seconds"),
)
VARIANTS = {
    "careful": [],
    "former": [
        *("model.batch_norm=train", "optim.backbone_rate=1e-3", "train.head_epochs=0"),
    ],
}
RESULTS = Path(__file__).with_name("fine_tuning.csv")
TESTED = 400


def mapped_weights(file: Path, to: Path) -> Path:
    """The package's weights under timm's names: the tensors are the same in the same order."""
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model(ENCODER).state_dict()
    pairs = list(zip(own.items(), theirs.values(), strict=True))
    assert all(x.shape == y.shape for (_, x), y in pairs)
    torch.save({name: y for (name, _), y in pairs}, to)
    return to


class Judge:
    """Tells which test images a method's backbone labels rightly by 20 neighbours, as ``evaluate`` does."""

    def __init__(self, parts: Any, spec: str):
        size, seed = parts.config.data.canvas_size, parts.config.train.seed
        source = open_source(spec, split="test") if parts.test is not None else None
        bank = parts.images
        if source is None:  # half of the training's images vote, the others are asked
            order = permutation(len(bank), seed, 1).numpy()
            self.bank, self.asked = bank.subset(order[: len(bank) // 2]), bank.subset(order[len(bank) // 2 :])
        else:
            chosen = permutation(len(source), seed, 1)[:TESTED].sort().values.numpy()
            self.bank, self.asked = bank, load_images(source.subset(chosen), size)
        self.view = parts.config.data.image_size

    def __call__(self, method: Any) -> Tensor:
        view = (self.view, method.encoder.mean, method.encoder.std)
        bank, asked = (
            extract(method.embed, part, *view, group=False).backbone for part in (self.bank, self.asked)
        )
        right = knn_predict(bank, self.bank.labels, asked).cpu() == torch.as_tensor(self.asked.labels)
        return right.double()


def trained(spec: str, method: str, variant: str, seed: int, size: int, weights: Path) -> Iterator[dict]:
    """A row for each of the weights of one training."""
    begun = time.perf_counter()
    sets = [
        *(f"data.source={spec}", f"data.image_size={size}", f"data.canvas_size={2 * size}"),
        "data.crop_from=square",  # as measured
        *(f"model.encoder={ENCODER}", f"model.init={weights}", f"method.name={method}"),
        *(f"train.seed={seed}", "train.precision=float32", "train.tensorboard=false"),
        *("train.keep_every=1", "train.checkpoint_minutes=1000", "data.limit=800", "data.workers=0"),
        *("views.recipe=crops", "train.batch_size=64", *VARIANTS[variant]),
    ]
    parts = prepare(load_config(None, sets))
    with tempfile.TemporaryDirectory() as out:
        folder = RunFolder.create(Path(out) / "run")
        folder.write_config(parts.config.as_mapping())
        config = parts.config.replace(train={"load_best": False})
        args = config, folder, parts.method, parts.loader, parts.views, parts.fabric
        observer = parts.observer
        assert observer is not None
        fit(*args, observer=observer, facts=parts.identity)
        judge, start = Judge(parts, spec), None
        beginning = Beginning(folder, parts.method, lambda: observer.features(parts.method))
        begun_with = folder.read_start()
        assert begun_with is not None
        for name, state in beginning.candidates(begun_with, tensors_of(parts.method)):
            put(parts.method, state)
            features, right = observer.features(parts.method), judge(parts.method)
            hits = two_view_hits(features)
            start = start or (features, right, hits)
            gain, found = right - start[1], hits - start[2]
            unit = torch.nn.functional.normalize(features, dim=-1)
            centred = unit - unit.mean((0, 1))
            yield {
                "weights": name,
                "images": len(parts.images),
                "held_out": len(hits),
                "knn": f"{100 * right.mean():.2f}",
                "knn_gain": f"{100 * gain.mean():.2f}",
                "knn_gain_se": f"{100 * gain.std() / len(gain) ** 0.5:.2f}",
                "recall": f"{100 * hits.mean():.2f}",
                "recall_gain": f"{100 * found.mean():.2f}",
                "recall_gain_se": f"{100 * found.std() / len(found) ** 0.5:.2f}",
                "kept": f"{100 * neighbours_kept(start[0][0], features[0], 20).mean():.2f}",
                "rank": f"{rankme(features[0]):.2f}",
                "alignment": f"{alignment(centred) / (2 * centred.square().sum(-1).mean()):.4f}",
                "seconds": f"{time.perf_counter() - begun:.0f}",
            }


# --- rules ----------------------------------------------------------------------------------------------------

Candidate = dict[str, Any]
Rule = Callable[[list[Candidate]], Candidate]


def rules() -> dict[str, Rule]:
    """Each takes the candidates of a training, the start first, and returns one."""

    def best(figure: str, sign: float = 1.0, *, kept: float = 0.0, errors: float = -1e9) -> Rule:
        def rule(found: list[Candidate]) -> Candidate:
            start = found[0]
            clear = [
                c
                for c in found[1:]
                if (c["kept"] >= kept and c["recall_gain"] > max(0, errors) * c["recall_gain_se"])
                or (errors < -1e8 and c["kept"] >= kept)
            ]
            top = max(clear, key=lambda c: sign * c[figure], default=start)
            return top if sign * top[figure] > sign * start[figure] else start

        return rule

    made = {
        "always the start": lambda found: found[0],
        "always the end": lambda found: found[-1],
        "the mixture of halves": lambda found: next(c for c in found if "50%" in c["weights"]),
        "the mixture of a quarter": lambda found: next(c for c in found if "25%" in c["weights"]),
        "highest rank": best("rank"),
        "best aligned": best("alignment", -1.0),
        "highest recall": best("recall"),
    }
    for errors, kept in product((0.0, 1.0, 2.0), (0.0, 50.0, 60.0, 70.0, 80.0, 90.0)):
        made[f"highest recall, gain > {errors:g} se, kept >= {kept:g}"] = best(
            "recall", kept=kept, errors=errors
        )
    return made


def compare(table: Table) -> None:
    """Print the regret of each rule, and the correlation of each figure with the change of k-NN."""
    trainings: dict[tuple[str, ...], list[Candidate]] = {}
    for row in table:
        key = tuple(row[name] for name in KEY if name != "weights")
        numbers = {name: float(row[name]) for name in VALUES}
        trainings.setdefault(key, []).append({"weights": row["weights"], **numbers})
    for variant in VARIANTS:
        runs = [found for key, found in trainings.items() if variant in key]
        if not runs:
            continue
        print(f"\n{variant}: {len(runs)} trainings")
        for figure in ("recall_gain", "kept", "rank", "alignment"):
            within = []
            for found in runs:
                pairs = torch.tensor([[c[figure], c["knn_gain"]] for c in found]).T
                if (pairs.std(1) > 0).all():
                    within.append(torch.corrcoef(pairs)[0, 1].item())
            print(f"  correlation with the change of k-NN within a training, {figure}: {fmean(within):+.2f}")
        for name, rule in rules().items():
            taken = [rule(found) for found in runs]
            regrets = [max(c["knn"] for c in found) - t["knn"] for found, t in zip(runs, taken, strict=True)]
            gains = [t["knn_gain"] for t in taken]
            worst = min((t["knn_gain"] / max(t["knn_gain_se"], 1e-9) for t in taken), default=0.0)
            spread = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            others = sum(t["weights"] != "the start" for t in taken)
            print(
                f"  {name:46s} regret {fmean(regrets):5.2f}  gain {fmean(gains):+5.2f} ({spread:.2f})  worst "
                f"{min(gains):+6.2f} ({max(-99, worst):+.1f} se)  not the start {others}"
            )


def main() -> None:
    of = parser(__doc__)
    of.add_argument("data", nargs="*", help="NAME=PATH")
    of.add_argument("--weights", type=Path, help="file of the package")
    of.add_argument("--methods", default="kl-vmf,byol")
    of.add_argument("--variants", default="careful")
    of.add_argument("--seeds", type=integers, default=[0])
    of.add_argument("--size", type=count, default=64)
    of.add_argument("--rules", action="store_true", help="compare the rules on the rows that are there")
    a = of.parse_args()
    table = Table(RESULTS, KEY, VALUES)
    if a.rules:
        compare(table)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = mapped_weights(a.weights, Path(folder) / "weights.pth")
        jobs = product(a.seeds, a.variants.split(","), a.methods.split(","), a.data)
        for seed, variant, method, named in jobs:
            name, _, spec = named.partition("=")
            cell = {"data": name, "method": method, "variant": variant, "seed": seed, "size": a.size}
            if {**cell, "weights": "the end"} in table:
                continue
            for row in list(trained(spec, method, variant, seed, a.size, weights)):
                table.append({**cell, **row})
                print({**cell, **row}, flush=True)


if __name__ == "__main__":
    main()
