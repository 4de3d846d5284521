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
from experiments.trained import RESULTS, Cells, main, span
from experiments.verdict import Figures, Verdict

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


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells, scores, made = Cells(rows), [], []
    for epochs in LENGTHS:
        exact, error = (f("cifar10", *EXACT[:1], "knn", "", epochs) for f in (cells.mean, cells.error))
        for method, options in list(ARMS.values())[:-1]:
            if cells.of("cifar10", method, options, epochs) and exact == exact:
                other = cells.error("cifar10", method, "knn", options, epochs)
                gain = exact - cells.mean("cifar10", method, "knn", options, epochs)
                scores.append(gain / (error**2 + other**2) ** 0.5)
    for arm, (m, o) in ARMS.items():
        shown = [
            cells.told("cifar10", m, metric, o, epochs, digits)
            for epochs in LENGTHS
            for metric, digits in (("knn", 1), ("seconds", 0))
        ]
        counts = [len(cells.of("cifar10", m, o, epochs)) for epochs in LENGTHS]
        if any(counts):
            made.append([arm, *shown, span(count for count in counts if count)])
    won = sum(z > 2 for z in scores)
    header = [f"{e} epochs: {what}" for e in LENGTHS for what in ("k-NN", "seconds")]
    return Verdict(
        "holds" if scores and won == len(scores) else "in part" if won else "not seen at this size",
        f"The exact statistic is better by two standard errors in {won} of {len(scores)} comparisons",
        [Figures("CIFAR-10, k-NN in % ± standard error, seconds of training", ["", *header, "seeds"], made)],
        "wide heads: the directions' noise grows with d (projection_noise), and d = 128 here is small",
    )


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
