"""Frozen features against adapted ones, paired, image by image: tables in README.md from `features`' files.

    python -m experiments.pretrained.study FEATURES/dtd.npz FEATURES/imagenette.npz ... --network efficientnet-lite0

Images of the training part are divided ten times, by seeds, in two thirds (the database, whose views alone are fitted
to, without labels) and one third (the queries). k-NN: a query's class by its 20 nearest of the database; mAP: finding
the queries of its class among the others. A difference is paired: that of an image is the mean over the divisions in
which it is a query, the standard error that over images. `adapted.csv`: a row a network, set, rule and number of
passes; `grid.csv`: every setting on every set, and criteria without labels, from which the choice and its regret are
read.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from experiments.command import count, parser
from experiments.records import Table
from isosphere.evaluation import class_outcomes, knn_predict
from isosphere.models import Adaptation, fit_adaptation
from isosphere.statistics import within_covariance, within_root

HERE = Path(__file__).parent
SPLITS = 10
RULES: dict[str, Mapping[str, float] | None] = {
    "frozen": None,
    "centred by half": {"shrinkage": 1.0, "strength": 0.0, "centring": 0.5},
    "centred (SimpleShot)": {"shrinkage": 1.0, "strength": 0.0, "centring": 1.0},
    "WCCN .3": {"shrinkage": 0.3, "strength": 0.0, "centring": 1.0},
    "default": {},
    "default, folded": {},
    **{f"default, {count} images": {} for count in (8, 32)},
}
"""Settings of :func:`isosphere.models.fit_adaptation`; folded: of one pass, mapped to the mean of two; with so many
images: fitted to the views of so many of the database.
"""
GRID = [(s, a) for s in (0.3, 0.7, 0.85, 0.95) for a in (0.0, 0.1, 0.15, 0.2, 0.3)]
GRID_SPLITS = 3
"""Of the ten divisions, those in which every setting is tried."""


def divisions(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Database and queries."""
    for seed in range(SPLITS):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        yield order[count // 3 :], order[: count // 3]


class Outcomes:
    """Per image, in percent: whether it was classified rightly and its average precision, means over divisions."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.sums, self.counts = torch.zeros(2, len(labels)), torch.zeros(len(labels))

    def add(self, rows: Tensor, database: Tensor, queries: Tensor) -> None:
        """`rows`: features of all images."""
        y = self.labels
        right = knn_predict(rows[database], y[database], rows[queries], k=20) == y[queries]
        precision = class_outcomes(rows[queries], y[queries], k=(1,))
        self.sums[0, queries] += 100 * right.float()
        self.sums[1, queries[precision.rows]] += 100 * precision.average_precision.float()
        self.counts[queries] += 1

    @property
    def mean(self) -> Tensor:
        """``(2, images that were queries)``."""
        return (self.sums / self.counts)[:, self.counts > 0]


def folded(first: Tensor, second: Tensor, database: Tensor, ridge: float = 1.0) -> Tensor:
    """One pass mapped to the mean of two by ridge regression on the database; the identity where nothing was learnt."""
    x, gap = first[database], (second - first)[database] / 2
    centre, shift = x.mean(0), gap.mean(0)
    gram = (x - centre) @ (x - centre).T
    scale = ridge * gram.diagonal().mean()
    dual = torch.linalg.solve(gram + scale * torch.eye(len(x), dtype=x.dtype), gap - shift)
    return normalize(first + shift + (first - centre) @ ((x - centre).T @ dual), dim=1)


def measure(file: Path, network: str, results: Table, rules: Collection[str]) -> None:
    """These rules on one set; the frozen features always."""
    held = {name: torch.from_numpy(x) for name, x in np.load(file).items()}
    views, labels = held["train/crops"], held["train/labels"].long()
    unit = normalize(held["train/passes"].double(), dim=2)
    passes = {1: unit[0], 2: normalize(unit.mean(0), dim=1)}
    key: dict[str, object] = {"network": network, "set": file.stem}
    wanted = {
        (rule, n): Outcomes(labels)
        for rule in RULES
        for n in ((1,) if rule.startswith("default,") else passes)
        if rule == "frozen" or (rule in rules and key | {"rule": rule, "passes": n} not in results)
    }
    for database, queries in divisions(len(labels)):
        fitted: dict[str, Adaptation] = {}
        for (rule, n), outcome in wanted.items():
            rows, setting = passes[n], RULES[rule]
            if "folded" in rule:
                rows = folded(unit[0], unit[1], database)
            if setting is not None:
                count = int(rule.split()[1]) if rule.endswith("images") else len(database)
                name = f"{setting} {count}"
                fitted[name] = fitted.get(name) or fit_adaptation(views[:, database[:count]], **setting)
                rows = fitted[name](rows)
            outcome.add(rows, database, queries)
    for (rule, n), outcome in wanted.items():
        row: dict[str, object] = key | {"rule": rule, "passes": n}
        if row in results:
            continue
        against = {"": wanted["frozen", n].mean, "_one": wanted["frozen", 1].mean}
        row |= dict(zip(("knn", "map"), (f"{x:.2f}" for x in outcome.mean.mean(1)), strict=True))
        for name, base in against.items():
            gap = outcome.mean - base
            error = gap.std(1) / gap.shape[1] ** 0.5
            for i, figure in enumerate(("knn", "map")):
                row[f"{figure}_gain{name}"], row[f"{figure}_error{name}"] = (
                    f"{gap.mean(1)[i]:.2f}",
                    f"{error[i]:.2f}",
                )
        results.append(row)
        print(row, flush=True)


def nearest(x: Tensor, k: int = 10) -> Tensor:
    """``(n, n)``: 1 where a column is one of the k nearest others of a row."""
    cosines = x @ x.T
    cosines.fill_diagonal_(-2)
    return torch.zeros_like(cosines).scatter_(1, cosines.topk(k, 1).indices, 1.0)


def criteria(fitted: Tensor, views: Tensor, setting: Mapping[str, float] | None) -> dict[str, float]:
    """What can be known without labels, of views of images that were not fitted to: the likelihood of how views differ
    (shrinkage alone), the share of variance between images, how many of the ten nearest other images two views have in
    common, and how often one view finds the other (not to be chosen by).
    """
    unit = normalize(views.double(), dim=2)
    seen = unit
    if setting is not None:
        adapted = fit_adaptation(fitted, **setting)
        seen = torch.stack([adapted(x) for x in unit]).double()
    apart = (seen - seen.mean(0)).square().sum(2).mean() * len(seen) / (len(seen) - 1)
    whole = (seen - seen.mean((0, 1))).square().sum(2).mean()
    pairs = list(zip(seen[::2], seen[1::2], strict=False))
    common = [(nearest(a) * nearest(b)).sum(1).mean().item() / 10 for a, b in pairs]
    found = [((a @ b.T).argmax(1) == torch.arange(len(a))).double().mean().item() for a, b in pairs]
    likelihood = float("nan")
    if setting is not None:
        x = normalize(fitted.double(), dim=2)
        # The covariance that the root is of, up to its scale, which is that of the views fitted to.
        precision = torch.linalg.matrix_power(within_root(x, setting["shrinkage"]), 2)
        scale = within_covariance(x).diagonal().mean()
        d = (unit - unit.mean(0)).flatten(0, 1)
        square = ((d @ precision) * d).sum(1).mean() * len(unit) / (len(unit) - 1) / scale
        likelihood = float(torch.linalg.slogdet(precision)[1] - square) / 2 / d.shape[1]
    return {
        "likelihood": likelihood,
        "share": float(1 - apart / whole),
        "common": sum(common) / len(common),
        "recall": sum(found) / len(found),
    }


def search(file: Path, network: str, grid: Table) -> None:
    """All settings on one set: gains of one pass in some of the divisions, and the criteria."""
    held = {name: torch.from_numpy(x) for name, x in np.load(file).items()}
    views, labels = held["train/crops"], held["train/labels"].long()
    half = torch.randperm(views.shape[1], generator=torch.Generator().manual_seed(SPLITS))
    one, other = half[: len(half) // 2], half[len(half) // 2 :]
    unit = normalize(held["train/passes"][0].double(), dim=1)
    base = Outcomes(labels)
    for setting in (None, *({"shrinkage": s, "strength": a} for s, a in GRID)):
        key = {"network": network, "set": file.stem, "shrinkage": "", "strength": ""} | (setting or {})
        if key in grid:
            continue
        outcome = Outcomes(labels)
        for database, queries in islice(divisions(len(labels)), GRID_SPLITS):
            rows = unit if setting is None else fit_adaptation(views[:, database], **setting)(unit)
            outcome.add(rows, database, queries)
        base = outcome if setting is None else base
        gain = (outcome.mean - base.mean).mean(1)
        found = criteria(views[:, one], views[:, other], setting)
        numbers = {"knn_gain": gain[0], "map_gain": gain[1]} | found
        grid.append(key | {name: f"{float(x):.4f}" for name, x in numbers.items()})
    print(f"{file.stem}: done", flush=True)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("features", nargs="+", type=Path)
    options.add_argument("--network", required=True)
    options.add_argument("--rules", help="some of the rules, with ; between them")
    options.add_argument("--grid", action="store_true", help="every setting, for the choice")
    options.add_argument("--threads", type=count, default=1)
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    figures = [f"{f}_{x}{o}" for o in ("", "_one") for f in ("knn", "map") for x in ("gain", "error")]
    results = Table(HERE / "adapted.csv", ("network", "set", "rule", "passes"), ("knn", "map", *figures))
    grid = Table(
        HERE / "grid.csv",
        ("network", "set", "shrinkage", "strength"),
        ("knn_gain", "map_gain", "likelihood", "share", "common", "recall"),
    )
    for file in a.features:
        if a.grid:
            search(file, a.network, grid)
            continue
        measure(file, a.network, results, a.rules.split(";") if a.rules else list(RULES))


if __name__ == "__main__":
    main()
