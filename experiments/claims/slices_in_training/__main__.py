"""Does training converge faster without projection noise: 64, 256, 1,024 slices against the exact statistic?

    python -m experiments.claims.slices_in_training cifar10=/path/cifar10.npz

SUSReg and its average over all directions, the induced-kernel MMD, at the balanced weight, for trainings of 3 and of 10
epochs (each with its own whole schedule): accuracy per step and per second of training.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "Removing projection noise makes training converge faster (2606.17603)"
COMMAND = "python -m experiments.claims.slices_in_training cifar10=PATH"
EXACT = ("mmd-induced", "")
ARMS = {
    "64 slices": ("sphere-jepa", "method.options.num_slices=64"),
    "256 slices": ("sphere-jepa", "method.options.num_slices=256"),
    "1,024 slices": ("sphere-jepa", ""),
    "exact": EXACT,
}
LENGTHS = (3, 10)


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    for seed in (0, 1, 2):
        for epochs in LENGTHS:
            yield from (job("cifar10", m, seed, options, epochs) for m, options in ARMS.values())


def verdict(rows: Iterable[dict[str, str]]) -> tuple[str, str]:
    cells = Cells(rows)
    told, won, compared = [], 0, 0
    for epochs in LENGTHS:
        found = {a: cells.mean("cifar10", m, "knn", o, epochs) for a, (m, o) in ARMS.items()}
        seconds = {a: cells.mean("cifar10", m, "seconds", o, epochs) for a, (m, o) in ARMS.items()}
        shown = ", ".join(f"{a} {v:.1f} ({seconds[a]:.0f} s)" for a, v in found.items() if v == v)
        told.append(f"k-NN after {epochs} epochs: {shown}")
        error = max(cells.error("cifar10", m, "knn", o, epochs) for m, o in ARMS.values())
        for arm in ("64 slices", "256 slices", "1,024 slices"):
            if found[arm] == found[arm] and found["exact"] == found["exact"]:
                compared += 1
                won += found["exact"] > found[arm] + 2 * error
    word = "holds" if compared and won == compared else "in part" if won else "not seen at this size"
    return word, ". ".join(
        told
    ) + f". Exact is better by two standard errors in {won} of {compared} comparisons"


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axes = panels(1, 2, width=4.0, height=2.8, sharey=True)
    for axis, what in zip(axes, ("epochs", "seconds of training"), strict=True):
        for i, (arm, (method, options)) in enumerate(ARMS.items()):
            x = [
                e if what == "epochs" else cells.mean("cifar10", method, "seconds", options, e)
                for e in LENGTHS
            ]
            y = [cells.mean("cifar10", method, "knn", options, e) for e in LENGTHS]
            axis.plot(x, y, "o-", color=COLOURS[i], markersize=4, label=arm)
            for e, at in zip(LENGTHS, x, strict=True):
                values = list(cells.values("cifar10", method, "knn", options, e).values())
                axis.plot([at] * len(values), values, "_", color=COLOURS[i], markersize=8)
        axis.set(xlabel=what, title="CIFAR-10 k-NN, %" if what == "epochs" else None)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "slices_in_training.svg")
