"""Does training converge faster without projection noise: 64, 256, 1,024 slices against the exact statistic?

    python -m experiments.claims.slices_in_training cifar10=/path/cifar10.npz

SUSReg and its average over all directions, the induced-kernel MMD, for CIFAR-10 trainings of 3 and of 10 epochs and
wood trainings of 12 and of 60, each with its own whole schedule. First all at the weight of the exact statistic (the
cut-off 1/2), so that they differ by the noise alone; then each at its balanced weight, whose odds are lighter by the
share of the gradient that is signal.
"""

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.filling import job
from experiments.trained import HALF, RESULTS, Cells, Course, main, span
from experiments.verdict import Figures, Verdict

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "Removing projection noise makes training converge faster (2606.17603)"
COMMAND = "python -m experiments.claims.slices_in_training cifar10=PATH"
SLICED, EXACT = "sphere-jepa", "mmd-induced"
SLICES = {
    "64 slices": "method.options.num_slices=64",
    "256 slices": "method.options.num_slices=256",
    "1,024 slices": "",
}
ALLOWANCE = ", lighter"
ARMS = {
    **{name: (SLICED, ";".join(filter(None, (o, *HALF.values())))) for name, o in SLICES.items()},
    **{name + ALLOWANCE: (SLICED, o) for name, o in SLICES.items()},
    "exact": (EXACT, ""),
}
COURSES = {
    "CIFAR-10, 3 epochs": Course("cifar10", "knn", 3),
    "CIFAR-10, 10 epochs": Course("cifar10", "knn", 10),
    "wood, 12 epochs": Course("wood", "recall1_head", 12),
    "wood, 60 epochs": Course("wood", "recall1_head", 60),
}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    for seed in (0, 1, 2):
        for course in COURSES.values():
            yield from (job(course.data, m, seed, options, course.epochs) for m, options in ARMS.values())


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells = Cells(rows)
    scores: dict[bool, list[float]] = {False: [], True: []}  # with the allowance for noise
    for data, metric, epochs in map(astuple, COURSES.values()):
        for arm, (method, options) in ARMS.items():
            if (
                method == SLICED
                and cells.of(data, method, options, epochs)
                and cells.of(data, EXACT, "", epochs)
            ):
                gain, error = cells.gain(data, EXACT, SLICED, metric, "", options, epochs)
                scores[arm.endswith(ALLOWANCE)].append(gain / error)
    won, lost = ({k: sum(sign * z > 2 for z in found) for k, found in scores.items()} for sign in (1, -1))
    made = []
    for arm, (m, o) in ARMS.items():
        counts = [len(cells.of(c.data, m, o, c.epochs)) for c in COURSES.values()]
        shown = [cells.told(c.data, m, c.metric, o, c.epochs) for c in COURSES.values()]
        if any(counts):
            made.append([arm, *shown, span(count for count in counts if count)])
    word = (
        "holds"
        if won[False] > len(scores[False]) / 2 and not lost[False]
        else "in part"
        if won[False] > lost[False]
        else "not seen at this size"
    )
    return Verdict(
        word,
        f"At one weight the exact statistic is better by two standard errors in {won[False]} of {len(scores[False])} "
        f"comparisons, worse in {lost[False]}; against slices whose weight is lighter by the share of the gradient "
        f"that is signal, in {won[True]} of {len(scores[True])}, worse in {lost[True]}",
        [
            Figures(
                "k-NN on CIFAR-10 (batches of 256), Recall@1 of the head on wood (batches of 100), % ± standard error",
                ["", *COURSES, "seeds"],
                made,
            )
        ],
        "wide heads: the directions' noise grows with d (projection_noise), and d = 128 here is small; and per second, "
        "for which the cells' machines were too busy with other work (a step's time is in docs/discrepancies.md)",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axis = panels(1, 1, width=7.0, height=2.9)
    series = {
        arm: (
            COLOURS[i],
            [cells.values(c.data, m, c.metric, o, c.epochs).values() for c in COURSES.values()],
        )
        for i, (arm, (m, o)) in enumerate(ARMS.items())
    }
    grouped_bars(axis, [name.replace(", ", "\n") for name in COURSES], series)
    axis.set(title="CIFAR-10: k-NN; wood: Recall@1 of the head, %")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "slices_in_training.svg")
