"""Can features be spread after training as well as in it?

    python -m experiments.claims.whitened_afterwards cifar10=/path/cifar10.npz

k-NN of the backbone's features as they are; whitened by those of the training images (`standardised`, shrinkage .1);
and in the metric in which two views of a training image differ as much in every direction (`view_whitened`). No label
is used. Methods that spread embeddings in training, and methods that do not: nearest neighbours see only cosines, and
what lies in directions of small variance is lost to them, though not to a linear probe.
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
COMMAND = "python -m experiments.claims.whitened_afterwards cifar10=PATH"
DATA = "cifar10"
SPREAD = ("kl-vmf", "mmd-heat", "sphere-jepa", "lejepa", "simclr")
NOT_SPREAD = ("byol", "simsiam", "vi-simsiam", "vje", "barlow-twins")
METHODS = ("untrained", *NOT_SPREAD, *SPREAD)
SEED = dict.fromkeys(METHODS, 3) | dict.fromkeys(("simsiam", "vi-simsiam", "barlow-twins"), 1)
"""The first of which whitened figures were measured."""
WHITENED = {"whitened": "knn_white", "by views": "knn_views"}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    yield from (job(DATA, m, seed) for m, seed in SEED.items())


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells = _measured(rows)
    low, high = ([_lift(cells, m) for m in group if cells.of(DATA, m)] for group in (NOT_SPREAD, SPREAD))
    lifted = sum(lift > 2 * error for lift, error in low)
    behind, ahead = (_best(cells, *pair) for pair in ((NOT_SPREAD, "knn_white"), (SPREAD, "knn")))
    decided, worth = "", False
    if ahead and behind:
        (plain, error), (white, other) = (
            (cells.mean(DATA, m, k), cells.error(DATA, m, k))
            for m, k in ((ahead, "knn"), (behind, "knn_white"))
        )
        worth = plain - white > 2 * (error**2 + other**2) ** 0.5
        decided = (
            f"; the best of these is {plain:.1f} as it is ({ahead}), of those {white:.1f} whitened ({behind})"
        )
    return Verdict(
        "holds"
        if worth and low and lifted == len(low)
        else "in part"
        if worth or lifted
        else "does not hold",
        f"Whitening raises k-NN by two standard errors in {lifted} of {len(low)} methods that do not spread (mean "
        f"{_mean(low):+.1f}) and in {sum(lift > 2 * error for lift, error in high)} of {len(high)} that do "
        f"({_mean(high):+.1f}){decided}",
        [_table(cells)],
        "more trainings, other data and networks: on textures, where few directions tell images apart, whitening does "
        "harm (`docs/decisions.md`)",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    every = Cells(rows)
    cells = _measured(every.rows)
    figure, axis = panels(1, 1, width=6.8, height=3.6)
    shown = sorted((m for m in METHODS if cells.of(DATA, m)), key=lambda m: cells.mean(DATA, m, "knn_white"))
    for y, m in enumerate(shown):
        colour = COLOURS[0] if m in SPREAD else COLOURS[1] if m in NOT_SPREAD else COLOURS[9]
        plain, white, views = (cells.mean(DATA, m, metric) for metric in ("knn", *WHITENED.values()))
        axis.plot([plain, white], [y, y], color=colour, linewidth=2)
        axis.plot(plain, y, "o", color=colour, markerfacecolor="white")
        axis.plot(white, y, "o", color=colour)
        axis.plot(views, y, "|", color=colour, markersize=11, markeredgewidth=2)
    groups = {"spreads in training": COLOURS[0], "does not": COLOURS[1], "untrained": COLOURS[9]}
    for words, colour in groups.items():
        axis.plot([], [], color=colour, linewidth=2, label=words)
    ink: dict[str, Any] = {"color": COLOURS[6], "linestyle": ""}
    axis.plot([], [], "o", markerfacecolor="white", label="features as they are", **ink)
    axis.plot([], [], "o", label="whitened", **ink)
    axis.plot([], [], "|", markersize=11, markeredgewidth=2, label="in the metric of views", **ink)
    if every.values(DATA, "pca-whitened", "knn"):
        pixels = every.mean(DATA, "pca-whitened", "knn")
        axis.axvline(pixels, color=COLOURS[6], linestyle=":", label="whitened pixels")
    axis.set_yticks(range(len(shown)), shown)
    axis.set(xlabel="k-NN on CIFAR-10, %")
    axis.grid(visible=False, axis="y")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    save(figure, path)


def _measured(rows: Iterable[dict[str, str]]) -> Cells:
    """The cells whose features were whitened too; plain figures are then of the same trainings."""
    every = list(rows)
    return Cells((r for r in every if r.get("knn_white")), every)


def _lift(cells: Cells, method: str) -> tuple[float, float]:
    """What whitening adds, and its standard error as if the two figures were of different images and trainings."""
    lift = cells.mean(DATA, method, "knn_white") - cells.mean(DATA, method, "knn")
    return lift, 2**0.5 * cells.error(DATA, method, "knn")


def _mean(lifts: Sequence[tuple[float, float]]) -> float:
    return fmean(lift for lift, _ in lifts) if lifts else 0.0


def _best(cells: Cells, group: Sequence[str], metric: str) -> str | None:
    return max(
        (m for m in group if cells.of(DATA, m)), key=lambda m: cells.mean(DATA, m, metric), default=None
    )


def _table(cells: Cells) -> Figures:
    columns = {"k-NN": "knn"} | WHITENED | {"linear": "linear", "uniformity": "uniformity"}
    return cells.table(
        "CIFAR-10: k-NN of the backbone's features as they are, whitened, and in the metric of their views; linear "
        "probe, % ± standard error; uniformity of the embeddings (lower is more uniform)",
        {m: (m, "") for m in sorted(METHODS, key=lambda m: -cells.mean(DATA, m, "knn")) if cells.of(DATA, m)},
        {title: (DATA, metric, 2 if metric == "uniformity" else 1) for title, metric in columns.items()},
    )


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "whitened_afterwards.svg")
