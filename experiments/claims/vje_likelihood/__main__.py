"""Is VJE on a par with its rivals, do its likelihoods tell foreign images, and what are its parts for?

    python -m experiments.claims.vje_likelihood cifar10=/path/cifar10.npz dtd=/path/dtd.zip galaxies=/path/galaxies.zip

Each arm is trained on 6,000 CIFAR-10 images (10 epochs, small encoder) and evaluated by k-NN, linear probe and spread;
then its own scores and four distances (of the backbone and of the embedding) tell 2,000 CIFAR-10 test images from
procedural textures and the other sets that are named, all brought to 32 px: AUROC, foreign images positive.
``one-class`` arms learn from 2,000 images of one class, and the scores tell its test images from those of the nine
others. Rows go to ``results.csv`` as (arm, seed, quantity) -> value and 95 % interval.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.drawing import COLOURS, panels, save
from experiments.methods.cell import configuration, drawn, figures_of, train
from experiments.methods.filling import arguments, job, minutes
from experiments.records import Table, newest
from experiments.verdict import Figures, Verdict, pooled_deviation
from isosphere import Run, evaluate
from isosphere.data import ImageSet, Source, as_source, load_images, open_source
from isosphere.evaluation import extract
from isosphere.methods import Method

HERE = Path(__file__).parent
CLAIM = (
    "VJE is on a par with BYOL, SimSiam and VI-SimSiam; its likelihoods detect foreign images; it fails towards the "
    "Gaussian limit (2602.05639)"
)
COMMAND = "python -m experiments.claims.vje_likelihood cifar10=PATH dtd=PATH galaxies=PATH"
RIVALS = ("byol", "simsiam", "vi-simsiam")
ARMS = {
    "vje": ("vje", ""),
    "vje+mmd": ("vje+mmd", ""),
    "vje-cauchy": ("vje-cauchy", ""),
    **{rival: (rival, "") for rival in RIVALS},
    "kl-vmf": ("kl-vmf", ""),
    "untrained": ("untrained", ""),
    "nu 1": ("vje", "method.options.degrees_of_freedom=1"),
    "nu 30": ("vje", "method.options.degrees_of_freedom=30"),
    "nu 1e6": ("vje", "method.options.degrees_of_freedom=1000000"),
    "scale in units of z": ("vje", "method.options.unit=1"),
    "no radial factor": ("vje", "method.options.radial=false"),
    "no stopped gradient": ("vje", "method.options.stop_gradient=false"),
    "no batch norm": ("vje", "method.options.batch_norm=false;method.options.standardise=false"),
    "untied": ("vje", "method.options.tied=false"),
    "kl weight .3": ("vje", "method.options.kl_weight=0.3"),
    "no radial factor, + mmd": ("vje+mmd", "method.options.radial=false"),
    "no batch norm, + mmd": ("vje+mmd", "method.options.batch_norm=false;method.options.standardise=false"),
}
SEEDED = ("vje", "vje+mmd", "vje-cauchy", *RIVALS, "kl-vmf", "untrained")
CELL = ("arm", "quantity")
ONE_CLASS = ("vje", "vje-cauchy", "vje+mmd", "vi-simsiam", "kl-vmf", "untrained")
BOUNDS = {"vje": "Student-t", "vje-cauchy": "spherical Cauchy"}
"""Methods whose scores are asked for, by their directional factor."""
CLASSES = (0, 3, 8)
COUPLING = ("own length", "expected length", "expected over own")
COUPLED = ("vje", "no radial factor")
PAR = 2
"""Standard errors of a difference that methods on a par may lie apart."""
Interval = tuple[float, float, float]
"""Value and 95 % interval."""
FIGURES = ("knn", "linear", "uniformity", "alignment", "effective_rank", "collapsed")


def trained(
    arm: str, seed: int, spec: str, folder: str, source: Source | None = None, epochs: int = 10
) -> Run:
    """The run of an arm: on CIFAR-10, or on some images of it."""
    method, options = ARMS[arm]
    wanted = job("cifar10", method, seed, options, epochs)
    return train(wanted, configuration(wanted, spec), Path(folder) / "run", source)[0]


def detected(run: Run, test: Source, outside: dict[str, Source]) -> Iterator[tuple[str, str, Interval]]:
    """AUROC of every score by foreign set: of the method's own, and of distances to the training images, which are
    one class.
    """
    assert run.images is not None
    sets = [as_source(source, name=name) for name, source in outside.items()]
    unlabelled = as_source(run.images, labels=[-1] * len(run.images))
    found = evaluate(run, unlabelled, test=test, tasks="ood", ood=sets, progress=False)
    for figure in found["ood"].find(model="trained", metric="auroc"):
        own = figure.layer == "method"
        score = figure.variant if own else f"{figure.variant} of the {figure.layer}"
        yield figure.subset, score, (figure.value, figure.estimate.low, figure.estimate.high)


def whole(arm: str, seed: int, specs: dict[str, str]) -> Iterator[tuple[str, Interval]]:
    """Accuracy, spread, detection and for some coupling of an arm that learns from all classes."""
    spec = specs["cifar10"]
    with tempfile.TemporaryDirectory() as folder:
        run = trained(arm, seed, spec, folder)
        figures = figures_of(run, "cifar10", spec)
        for name in FIGURES:
            value, low, high = (
                float(figures.get(k, figures[name])) for k in (name, f"{name}_low", f"{name}_high")
            )
            yield name, (value, low, high)
        outside = {"textures": "textures:all"} | {n: s for n, s in specs.items() if n != "cifar10"}
        sets = {name: drawn(where, 1000) for name, where in outside.items()}
        for name, score, found in detected(run, drawn(spec, 2000), sets):
            yield f"auroc/{name}/{score}", found
        if arm in COUPLED:
            yield from coupling(run.method, load_images(drawn(spec, 5000), 32))


def one_class(arm: str, seed: int, specs: dict[str, str]) -> Iterator[tuple[str, Interval]]:
    """Detection of the other nine classes by arms that have seen one only."""
    spec = specs["cifar10"]
    source, tests = open_source(spec, split="train"), open_source(spec, split="test")
    for label in CLASSES:
        images = source.subset(np.flatnonzero(source.labels == label)[:2000])
        inside = tests.subset(np.flatnonzero(tests.labels == label)[:500])
        outside = tests.subset(np.flatnonzero(tests.labels != label)[::9][:1000])
        with tempfile.TemporaryDirectory() as folder:
            run = trained(arm, seed, spec, folder, images, epochs=15)
            for _, score, found in detected(run, inside, {"outside": outside}):
                yield f"one-class/{label}/{score}", found


def coupling(method: Method, images: ImageSet) -> Iterator[tuple[str, Interval]]:
    """How the length of an embedding, and the length that the posterior gives it, go with how well its direction is
    explained: rank correlations over test images; and the second length in units of the first.
    """
    network: Any = method
    encoder: Any = method.encoder

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        h = network.standardise(encoder(x))
        lengths = torch.stack([h, network.head(h)[:, : h.shape[1]]]).float().norm(dim=-1)
        columns = torch.stack([*lengths, network.scores(x)["directional"]], 1)
        return columns, columns

    own, expected, directional = extract(encode, images, 32, encoder.mean, encoder.std).backbone.double().mT
    for name, length in (("own length", own), ("expected length", expected)):
        places = torch.stack([length, directional]).argsort(1).argsort(1)
        found = torch.corrcoef(places.double())[0, 1].item()
        centre, half = math.atanh(found), 1.96 / (len(images) - 3) ** 0.5
        yield f"coupling/{name}", (found, math.tanh(centre - half), math.tanh(centre + half))
    ratio = (expected / own).quantile(torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64))
    yield "coupling/expected over own", tuple(ratio.tolist())


def _of(rows: list[dict[str, str]], arm: str, quantity: str) -> list[float]:
    return [float(r["value"]) for r in rows if r["arm"] == arm and r["quantity"] == quantity]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _error(rows: list[dict[str, str]], arm: str, metric: str) -> float:
    """Standard error of an arm's mean: that of the test images, and of its trainings, in squares."""
    found = [r for r in rows if r["arm"] == arm and r["quantity"] == metric]
    of_images = _mean([float(r["high"]) - float(r["low"]) for r in found]) / (2 * 1.96)
    of_trainings = pooled_deviation(_of(rows, each, metric) for each in ARMS) / max(1, len(found)) ** 0.5
    return math.hypot(of_images, of_trainings)


def _gain(rows: list[dict[str, str]], arm: str, rival: str, metric: str) -> float:
    """What an arm's mean is above a rival's, in standard errors of the difference."""
    gain = _mean(_of(rows, arm, metric)) - _mean(_of(rows, rival, metric))
    return gain / math.hypot(_error(rows, arm, metric), _error(rows, rival, metric))


def detectors(rows: list[dict[str, str]], arm: str, prefix: str = "auroc/") -> dict[str, float]:
    """Mean AUROC of each score of an arm over sets and seeds."""
    found: dict[str, list[float]] = {}
    for r in rows:
        if r["arm"] == arm and r["quantity"].startswith(prefix):
            found.setdefault(r["quantity"].split("/")[-1], []).append(float(r["value"]))
    return {name: _mean(values) for name, values in found.items()}


def _trainings(rows: list[dict[str, str]], arm: str, prefix: str) -> str:
    seeds = len({r["seed"] for r in rows if r["arm"] == arm and r["quantity"].startswith(prefix)})
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _fare(level: dict[str, bool]) -> str:
    """How an arm's own scores do beside distances, of where they are level with them."""
    below = [what for what, holds in level.items() if not holds]
    if not below:
        return "hold"
    return "are below distances" + (f" on {', '.join(below)}" if len(below) < len(level) else "")


def verdict(rows: list[dict[str, str]]) -> Verdict:
    mean = {
        metric: {arm: _mean(_of(rows, arm, metric)) for arm in ARMS if _of(rows, arm, metric)}
        for metric in ("knn", "linear")
    }
    on_par = [
        words
        for metric, words in (("knn", "by k-NN"), ("linear", "by the linear probe"))
        if all(_gain(rows, "vje", rival, metric) > -PAR for rival in RIVALS)
    ]
    told: list[str] = []
    detects: dict[str, dict[str, bool]] = {arm: {} for arm in BOUNDS}
    for prefix, what in (("auroc/", "foreign sets"), ("one-class/", "one class against nine")):
        for arm, factor in BOUNDS.items():
            if (found := detectors(rows, arm, prefix)) == {}:
                continue
            own, far = (
                max((v, n) for n, v in found.items() if (" of the " in n) == distance)
                for distance in (False, True)
            )
            detects[arm][what] = own[0] >= far[0] - 0.02
            told.append(
                f"{what} ({factor}, {_trainings(rows, arm, prefix)}): best score {own[1]} {own[0]:.3f}, best distance "
                f"{far[1]} {far[0]:.3f}"
            )
    knn, gaussian = mean["knn"], "nu 1e6"
    fails = gaussian in knn and any(_gain(rows, gaussian, "vje", metric) < -PAR for metric in mean)
    accuracy = {0: "does not hold", 1: f"holds {' '.join(on_par)} alone", 2: "holds"}[len(on_par)]
    fares = {f"of the {BOUNDS[arm]}": _fare(found) for arm, found in detects.items() if found}
    alike = len(set(fares.values())) == 1
    scores = next(iter(fares.values())) if alike else " and ".join(f"{a} {how}" for a, how in fares.items())
    word = f"accuracy {accuracy}, scores {scores}, the Gaussian limit {'fails' if fails else 'does as well'}"
    if len(on_par) == 2 and all(detects["vje"].values()) and fails:
        word = "holds"
    ablated = ", ".join(
        f"{arm} {knn[arm]:.1f}" for arm in ("nu 1", "nu 30", "nu 1e6", "no radial factor") if arm in knn
    )
    return Verdict(
        word,
        f"k-NN of VJE with 5 degrees of freedom {knn['vje']:.1f}, {ablated}. Mean AUROC of VJE on {'; on '.join(told)}",
        [
            Figures(
                "CIFAR-10, 10 epochs: k-NN and linear probe of the backbone ± standard error, spread of the embeddings "
                "(256 dimensions without a head, 128 to 512 behind one)",
                ["", "k-NN, %", "linear, %", "uniformity", "effective rank", "seeds"],
                [_accuracy(rows, arm) for arm in ARMS if arm in knn],
            ),
            _detection(rows, "auroc/", "Mean AUROC over the foreign sets"),
            Figures(
                "What the radial factor is for: rank correlation of the directional log density with the length of the "
                "embedding and with the length that the posterior expects; the second length over the first (median, "
                "quartiles)",
                ["", *COUPLING],
                [
                    [arm, *(_interval(rows, arm, f"coupling/{name}") for name in COUPLING)]
                    for arm in COUPLED
                    if _of(rows, arm, "coupling/own length")
                ],
            ),
            _detection(rows, "one-class/", "Mean AUROC of one class (of three) against the other nine"),
        ],
        "whether hundreds of epochs, as in the paper, bring VJE to its rivals: 230 steps are few for predictors and "
        "stopped gradients",
    )


def _accuracy(rows: list[dict[str, str]], arm: str) -> list[str]:
    rates = [f"{_mean(_of(rows, arm, m)):.1f} ± {_error(rows, arm, m):.1f}" for m in ("knn", "linear")]
    spread = [f"{_mean(_of(rows, arm, 'uniformity')):.2f}", f"{_mean(_of(rows, arm, 'effective_rank')):.0f}"]
    return [arm, *rates, *spread, str(len(_of(rows, arm, "knn")))]


def _interval(rows: list[dict[str, str]], arm: str, quantity: str) -> str:
    found = next(r for r in rows if (r["arm"], r["quantity"]) == (arm, quantity))
    return f"{float(found['value']):.2f} [{float(found['low']):.2f}, {float(found['high']):.2f}]"


def _detection(rows: list[dict[str, str]], prefix: str, caption: str) -> Figures:
    """A line a score, of the arms that have it; the best of each arm in bold."""
    found = {arm: scores for arm in ONE_CLASS if (scores := detectors(rows, arm, prefix))}
    best = {arm: max(scores.values()) for arm, scores in found.items()}
    names = sorted({n for scores in found.values() for n in scores}, key=lambda n: (" of the " in n, n))

    def shown(arm: str, name: str) -> str:
        value = found[arm].get(name)
        if value is None:
            return ""
        return f"**{value:.3f}**" if value == best[arm] else f"{value:.3f}"

    return Figures(caption, ["score", *found], [[n, *(shown(arm, n) for arm in found)] for n in names])


def draw(rows: list[dict[str, str]], path: Path) -> None:
    figure, (left, right) = panels(1, 2, width=4.6, height=4.2)
    arms = [arm for arm in ARMS if _of(rows, arm, "knn")]
    for i, arm in enumerate(reversed(arms)):
        values = _of(rows, arm, "knn")
        left.barh(i, _mean(values), color=COLOURS[0 if ARMS[arm][0].startswith("vje") else 9], height=0.7)
        left.plot(values, [i] * len(values), "|", color="#1b1f24", markersize=9)
    left.set_yticks(range(len(arms)), list(reversed(arms)))
    left.axvline(_mean(_of(rows, "untrained", "knn")), color=COLOURS[1], linewidth=1)
    left.set(title="CIFAR-10 k-NN, % (line: untrained)", xlim=(20, None))
    left.grid(visible=False, axis="y")
    found = detectors(rows, "vje")
    names = sorted(found, key=lambda n: found[n])
    for i, name in enumerate(names):
        right.barh(i, found[name], color=COLOURS[9 if " of the " in name else 0], height=0.7)
        single = [
            float(r["value"])
            for r in rows
            if r["arm"] == "vje" and r["quantity"].startswith("auroc/") and r["quantity"].endswith(f"/{name}")
        ]
        right.plot(single, [i] * len(single), "|", color="#1b1f24", markersize=7)
    right.set_yticks(range(len(names)), names)
    right.axvline(0.5, color=COLOURS[1], linewidth=1)
    right.set(title="VJE: AUROC of foreign sets", xlim=(0, 1))
    right.grid(visible=False, axis="y")
    save(figure, path)


def main() -> None:
    parser = arguments(__doc__, names=("cifar10", "dtd", "galaxies"), budget="60m")
    parser.add_argument("--arms", help="comma-separated; left out: all")
    parser.add_argument("--out", type=Path, default=HERE / "results.csv")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    table = Table(a.out, ("arm", "seed", "quantity"), ("value", "low", "high"), judged=True)
    specs = dict(item.split("=", 1) for item in a.data)
    deadline, longest = time.monotonic() + 60 * minutes(a.budget), 0.0
    arms = a.arms.split(",") if a.arms else list(ARMS)
    jobs = [(whole, "knn", arm, 0) for arm in arms]
    jobs += [(whole, "knn", arm, seed) for seed in (1, 2) for arm in arms if arm in SEEDED]
    jobs += [
        (one_class, f"one-class/{CLASSES[0]}/knn of the head", arm, 0) for arm in arms if arm in ONE_CLASS
    ]
    for measure, mark, arm, seed in () if a.draw else jobs:
        if {"arm": arm, "seed": seed, "quantity": mark} in table or time.monotonic() + longest > deadline:
            continue
        started = time.monotonic()
        for quantity, estimate in list(measure(arm, seed, specs)):
            row = {"arm": arm, "seed": seed, "quantity": quantity}
            table.append(
                row | {k: f"{v:.4g}" for k, v in zip(("value", "low", "high"), estimate, strict=True)}
            )
        longest = max(longest, time.monotonic() - started)
        print(f"{arm} seed {seed} ({measure.__name__}): {time.monotonic() - started:.0f} s", flush=True)
    draw(newest(table, CELL), HERE / "vje_likelihood.svg")


if __name__ == "__main__":
    main()
