"""Do the statistics without projection noise beat SUSReg on class-like data?

    python -m experiments.claims.exact_against_sliced cifar10=/path/cifar10.npz imagenette=/path/imagenette

k-NN and linear probe of the backbone, from three seeds. At the balanced weight (the same cut-off of the spectrum for
every statistic); at the same expansion ratio r* = 10; and each at its own best of the cut-offs .35, .5, .7, chosen on
seed 0 and compared on the other seeds: by a second call, when the first has filled all of seed 0.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "MMD and KSD (heat, bandlimited, induced) beat SUSReg on class-like data (2606.17603)"
COMMAND = "python -m experiments.claims.exact_against_sliced cifar10=PATH imagenette=PATH"
SLICED = "sphere-jepa"
EXACT = ("mmd-induced", "mmd-heat", "mmd-bandlimited", "ksd-heat", "ksd-bandlimited")
SETS = ("cifar10", "imagenette")
MATCHED = "method.options.expansion=10"
CUTOFFS = ("method.options.cutoff=0.35", "", "method.options.cutoff=0.7")


def own_best(cells: Cells, data: str) -> dict[str, str]:
    """The options of the cut-off that is best on seed 0, of the methods that have been through all of them."""
    best = {}
    for method in (SLICED, *EXACT):
        at_seed_0 = ((c, cells.values(data, method, "knn", c).get(0)) for c in CUTOFFS)
        found = {value: c for c, value in at_seed_0 if value is not None}
        if len(found) == len(CUTOFFS):
            best[method] = found[max(found)]
    return best


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    methods = (SLICED, *EXACT)
    yield from (job(data, m) for data in SETS for m in methods)
    yield from (job("cifar10", m, seed) for seed in (1, 2) for m in methods)
    yield from (job("cifar10", m, 0, options) for options in (*CUTOFFS, MATCHED) for m in methods if options)
    best = own_best(cells, "cifar10").items()
    yield from (job("cifar10", m, seed, options) for seed in (1, 2) for m, options in best)
    yield from (job("imagenette", m, seed) for seed in (1, 2) for m in methods)


def verdict(rows: Iterable[dict[str, str]]) -> tuple[str, str]:
    cells = Cells(rows)
    told, better, worse, compared = [], 0, 0, 0
    for data in SETS:
        for metric in ("knn", "linear"):
            for method in EXACT:
                if not cells.of(data, method):
                    continue
                difference, error = cells.gain(data, method, SLICED, metric)
                compared += 1
                better += difference > 2 * error
                worse += difference < -2 * error
        seeds = len(cells.of(data, SLICED))
        told.append(f"{data} k-NN ({seeds} seed(s)): {cells.shown(data, (SLICED, *EXACT), 'knn')}")
    at_ratio = {m: cells.mean("cifar10", m, "knn", MATCHED) for m in (SLICED, *EXACT)}
    told.append("at r* = 10: " + ", ".join(f"{m} {v:.1f}" for m, v in at_ratio.items() if v == v))
    best = own_best(cells, "cifar10").items()
    chosen = {m: [v for s, v in cells.values("cifar10", m, "knn", o).items() if s > 0] for m, o in best}
    told.append(
        "at each one's own best cut-off: "
        + ", ".join(f"{m} {sum(v) / len(v):.1f}" for m, v in chosen.items() if v)
    )
    word = (
        "holds" if better > compared / 2 and not worse else "does not hold" if worse > better else "in part"
    )
    if compared and better + worse < compared / 4:
        word = "cannot be decided at this size"
    return word, (
        f"At the balanced weight {better} of {compared} comparisons are above SUSReg by two standard errors, "
        f"{worse} below. " + "; ".join(told)
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axes = panels(1, len(SETS), width=4.2, height=3.0)
    for axis, data in zip(axes, SETS, strict=True):
        for i, method in enumerate(reversed((SLICED, *EXACT))):
            for metric, offset, colour in (("linear", 0.19, COLOURS[5]), ("knn", -0.19, COLOURS[0])):
                values = list(cells.values(data, method, metric).values())
                if values:
                    axis.barh(i + offset, sum(values) / len(values), color=colour, height=0.36)
                    axis.plot(values, [i + offset] * len(values), "|", color="#1b1f24", markersize=7)
        axis.set_yticks(range(1 + len(EXACT)), list(reversed((SLICED, *EXACT))))
        axis.set(title=f"{data}: linear, k-NN (dark), %", xlim=(30, None))
        axis.grid(visible=False, axis="y")
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "exact_against_sliced.svg")
