"""Can features be spread after training as well as in it?

    python -m experiments.claims.whitened_afterwards cifar10=/path/cifar10.npz imagenette=/path/imagenette

k-NN of the backbone's features as they are; whitened by those of the training images (`standardised`, shrinkage .1);
and under WCCN, in which two views of a training image differ as much in every direction, as training leaves it with a
run. No label is used. Methods that spread embeddings in training, and methods that do not: nearest neighbours see only
cosines, and what lies in directions of small variance is lost to them, though not to a linear probe.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.drawing import COLOURS, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main
from experiments.verdict import Figures, Verdict

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = (
    "Neighbours lose what a method does not spread: whitening features afterwards gives part of it back, and "
    "spreading in training is worth more (our own, after the theory of 2605.26900)"
)
COMMAND = "python -m experiments.claims.whitened_afterwards cifar10=PATH imagenette=PATH"
SETS = {"cifar10": "CIFAR-10", "imagenette": "imagenette"}
SPREAD = ("kl-deep", "kl-vmf", "mmd-heat", "sphere-jepa", "lejepa", "simclr")
NOT_SPREAD = ("byol", "simsiam", "vi-simsiam", "vje", "barlow-twins")
METHODS = ("untrained", *NOT_SPREAD, *SPREAD)
SEED = {
    "cifar10": dict.fromkeys(METHODS, 3)
    | dict.fromkeys(("simsiam", "vi-simsiam", "barlow-twins"), 1)
    | {"kl-deep": 0},
    "imagenette": dict.fromkeys(METHODS, 0)
    | dict.fromkeys(("byol", "kl-vmf", "mmd-heat", "sphere-jepa", "lejepa"), 1),
}
"""The first of which whitened figures were measured."""
WHITENED = {"whitened": "knn_white", "by views": "knn_views"}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    yield from (job(data, m, seed) for data, seeds in SEED.items() for m, seed in seeds.items())


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells = _measured(rows)
    low, high = ([_lift(cells, *cell) for cell in _cells(cells, group)] for group in (NOT_SPREAD, SPREAD))
    by_views = [
        _lift(cells, data, m, "knn_views")
        for data, m in _cells(cells, (*NOT_SPREAD, *SPREAD))
        if cells.values(data, m, "knn_views")
    ]
    lifted = sum(lift > 2 * error for lift, error in low)
    met = [leads for data in SETS if (leads := _leads(cells, data))]
    worth = sum(ahead for ahead, _ in met)
    return Verdict(
        "holds"
        if met and worth == len(met) and lifted == len(low)
        else "in part"
        if worth or lifted
        else "does not hold",
        f"Whitening raises k-NN by two standard errors in {lifted} of {len(low)} comparisons of methods that do not "
        f"spread (mean {_mean(low):+.1f}) and in {sum(lift > 2 * error for lift, error in high)} of {len(high)} of "
        f"methods that do ({_mean(high):+.1f}); WCCN adds {_mean(by_views):+.1f} on average"
        + "".join(f"; {words}" for _, words in met),
        [_table(cells, data) for data in SETS],
        "more trainings, larger networks: on textures, where few directions tell images apart, whitening does harm "
        "(`docs/decisions.md`)",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    every = Cells(rows)
    cells = _measured(every.rows)
    figure, axes = panels(1, len(SETS), width=4.6, height=3.6)
    for axis, (data, name) in zip(axes, SETS.items(), strict=True):
        shown = sorted(
            (m for m in METHODS if cells.of(data, m)), key=lambda m: cells.mean(data, m, "knn_white")
        )
        for y, m in enumerate(shown):
            colour = COLOURS[0] if m in SPREAD else COLOURS[1] if m in NOT_SPREAD else COLOURS[9]
            plain, white, views = (cells.mean(data, m, metric) for metric in ("knn", *WHITENED.values()))
            axis.plot([plain, white], [y, y], color=colour, linewidth=2)
            axis.plot(plain, y, "o", color=colour, markerfacecolor="white")
            axis.plot(white, y, "o", color=colour)
            axis.plot(views, y, "|", color=colour, markersize=11, markeredgewidth=2)
        if every.values(data, "pca-whitened", "knn"):
            pixels = every.mean(data, "pca-whitened", "knn")
            axis.axvline(pixels, color=COLOURS[6], linestyle=":", label="whitened pixels")
        axis.set_yticks(range(len(shown)), shown)
        axis.set(title=f"k-NN on {name}, %")
        axis.grid(visible=False, axis="y")
    groups = {"spreads in training": COLOURS[0], "does not": COLOURS[1], "untrained": COLOURS[9]}
    for words, colour in groups.items():
        axes[0].plot([], [], color=colour, linewidth=2, label=words)
    ink: dict[str, Any] = {"color": COLOURS[6], "linestyle": ""}
    axes[0].plot([], [], "o", markerfacecolor="white", label="features as they are", **ink)
    axes[0].plot([], [], "o", label="whitened", **ink)
    axes[0].plot([], [], "|", markersize=11, markeredgewidth=2, label="after WCCN", **ink)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)


def _measured(rows: Iterable[dict[str, str]]) -> Cells:
    """The cells whose features were whitened too; plain figures are then of the same trainings."""
    every = list(rows)
    return Cells((r for r in every if r.get("knn_white")), every)


def _cells(cells: Cells, group: Sequence[str]) -> list[tuple[str, str]]:
    return [(data, m) for data in SETS for m in group if cells.of(data, m)]


def _lift(cells: Cells, data: str, method: str, metric: str = "knn_white") -> tuple[float, float]:
    """What whitening adds, and its standard error as if the two figures were of different images and trainings."""
    lift = cells.mean(data, method, metric) - cells.mean(data, method, "knn")
    return lift, 2**0.5 * cells.error(data, method, "knn")


def _mean(lifts: Sequence[tuple[float, float]]) -> float:
    return fmean(lift for lift, _ in lifts) if lifts else 0.0


def _leads(cells: Cells, data: str) -> tuple[bool, str] | None:
    """Whether the best method that spreads is, as it is, above the best other one whitened; None before both are."""
    ahead, behind = (_best(cells, data, *pair) for pair in ((SPREAD, "knn"), (NOT_SPREAD, "knn_white")))
    if ahead is None or behind is None:
        return None
    (plain, error), (white, other) = (
        (cells.mean(data, m, k), cells.error(data, m, k)) for m, k in ((ahead, "knn"), (behind, "knn_white"))
    )
    return plain - white > 2 * (error**2 + other**2) ** 0.5, (
        f"on {SETS[data]} the best that spreads has {plain:.1f} as it is ({ahead}), the best other {white:.1f} "
        f"whitened ({behind})"
    )


def _best(cells: Cells, data: str, group: Sequence[str], metric: str) -> str | None:
    return max(
        (m for m in group if cells.of(data, m)), key=lambda m: cells.mean(data, m, metric), default=None
    )


def _table(cells: Cells, data: str) -> Figures:
    columns = {"k-NN": "knn"} | WHITENED | {"linear": "linear", "uniformity": "uniformity"}
    measured = sorted((m for m in METHODS if cells.of(data, m)), key=lambda m: -cells.mean(data, m, "knn"))
    return cells.table(
        f"{SETS[data]}: k-NN of the backbone's features as they are, whitened, and after WCCN; "
        "linear probe, % ± standard error; uniformity of the embeddings (lower is more uniform)",
        {m: (m, "") for m in measured},
        {title: (data, metric, 2 if metric == "uniformity" else 1) for title, metric in columns.items()},
    )


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "whitened_afterwards.svg")
