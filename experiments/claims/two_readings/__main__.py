"""Which reading of the papers' lambda trains: the invariance summed over dimensions, or averaged?

    python -m experiments.claims.two_readings cifar10=/path/cifar10.npz [--budget 8h]

2606.17603 trains MMD and KSD with lambda .05 and KL with .5, and prints the invariance as a squared norm, the sliced
statistic without the factor n. "literal" is that sum; "averaged" takes the mean over the d dimensions, as LeJEPA's
code does, which the papers say they follow (``weight_of_lambda``). Both side by side with the papers' kernels (heat,
t = 5/d, for KL 2/d on its printed scale), and SUSReg, whose two readings differ here only because d is not n: k-NN of
the backbone on CIFAR-10 and Recall@1 of the head on wood, 40 epochs, seeds 0 and 1.

The rule, stated before any run: a reading trains a method on a set if no seed of it ends collapsed (mean cosine above
.95) and its mean is above the untrained encoder's by two standard errors of the difference. "the averaged reading" if
it trains all that the literal one does, and at least one more, and "the literal reading" the other way round; else
"cannot be decided". For KL it is open beforehand: in a short run the averaged weight spread without aligning.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.cell import COMMON, DATA
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, Course, main
from experiments.verdict import Figures, Verdict
from isosphere.methods import weight_of_lambda

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "The papers' lambda trains if the invariance is averaged over dimensions, and not if it is summed (our reading)"
COMMAND = "python -m experiments.claims.two_readings cifar10=PATH"
DIM = COMMON["model.dim"]
READINGS = {"literal": "sphere-jepa-literal", "averaged": "sphere-jepa"}
METHODS: Mapping[str, tuple[str, float, tuple[str, ...]]] = {
    "mmd-heat": ("mmd-heat", 0.05, (f"method.options.time={5 / DIM}",)),
    "ksd-heat": ("ksd-heat", 0.05, (f"method.options.time={5 / DIM}",)),
    "kl-heat": ("kl-heat", 0.5, ("method.options.scale=paper",)),
    "sphere-jepa": ("susreg", 0.05, ()),
}
"""Each with the name of its discrepancy, the lambda of its paper, and the paper's settings of the kernel."""
COURSES = {
    "CIFAR-10, 40 epochs": Course("cifar10", "knn", 40),
    "wood, 40 epochs": Course("wood", "recall1_head", 40),
}
SEEDS = (0, 1)


def options(method: str, reading: str, data: str) -> str:
    """The settings of a cell: the weight that the lambda is by this reading, and the kernel as printed."""
    discrepancy, value, more = METHODS[method]
    n = DATA[data].settings["train.batch_size"]
    weight = weight_of_lambda(value, READINGS[reading], dim=DIM, n=n, discrepancy=discrepancy)
    return ";".join([*more, f"method.weight={weight:.6g}"])


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    for course in COURSES.values():
        yield job(course.data, "untrained")
    for seed in SEEDS:
        for course in COURSES.values():
            for method in METHODS:
                for reading in READINGS:
                    chosen = options(method, reading, course.data)
                    yield job(course.data, method, seed, chosen, course.epochs)


def trains(cells: Cells, course: Course, method: str, reading: str) -> bool | None:
    """Whether a method trains by this reading, by the rule above; None before every seed is there."""
    chosen = options(method, reading, course.data)
    rows = cells.of(course.data, method, chosen, course.epochs)
    floor = cells.mean(course.data, "untrained", course.metric)
    if len(rows) < len(SEEDS) or floor != floor:
        return None
    if any(row["collapsed"] == "True" for row in rows):
        return False
    gain = cells.mean(course.data, method, course.metric, chosen, course.epochs) - floor
    errors = (
        cells.error(course.data, method, course.metric, chosen, course.epochs),
        cells.error(course.data, "untrained", course.metric),
    )
    return gain > 2 * sum(e**2 for e in errors) ** 0.5


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells = Cells(rows)
    found = {
        (name, m): {r: trains(cells, course, m, r) for r in READINGS}
        for name, course in COURSES.items()
        for m in METHODS
    }
    known = {key: by for key, by in found.items() if None not in by.values()}
    if len(known) < len(found):
        word = "cannot be decided before every cell is there"
        sentence = f"{len(known)} of {len(found)} cells have both readings and both seeds"
    else:
        literal = {key for key, by in known.items() if by["literal"]}
        averaged = {key for key, by in known.items() if by["averaged"]}
        word = (
            "the averaged reading"
            if averaged > literal
            else "the literal reading"
            if literal > averaged
            else "cannot be decided"
        )
        sentence = (
            f"Averaged, {len(averaged)} of {len(found)} cells train; literally read, {len(literal)}"
            + (f"; only literally: {_told(literal - averaged)}" if literal - averaged else "")
            + (
                f"; by neither: {_told(known.keys() - averaged - literal)}"
                if known.keys() - averaged - literal
                else ""
            )
        )
    made = []
    for name, course in COURSES.items():
        for m in METHODS:
            for reading in READINGS:
                chosen = options(m, reading, course.data)
                told = cells.told(course.data, m, course.metric, chosen, course.epochs)
                if told:
                    ended = cells.of(course.data, m, chosen, course.epochs)
                    collapsed = sum(row["collapsed"] == "True" for row in ended)
                    weight = cells.told(course.data, m, "weight", chosen, course.epochs, 4)
                    ratio = cells.told(course.data, m, "r_star", chosen, course.epochs, 2)
                    rank = cells.told(course.data, m, "effective_rank", chosen, course.epochs)
                    made.append([name, m, reading, weight, ratio, told, rank, f"{collapsed} of {len(ended)}"])
    header = ["trained on", "method", "reading", "weight", "r*", "%", "effective rank", "collapsed"]
    return Verdict(
        word,
        sentence,
        [Figures("k-NN of the backbone, Recall@1 of the head, % ± standard error", header, made)],
        "the papers' own code, and networks and lengths of their size: `--tier resnet18`",
    )


def _told(keys: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{m} on {name.partition(',')[0]}" for name, m in sorted(keys))


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axes = panels(1, len(COURSES), width=4.4, height=2.8)
    for axis, (name, course) in zip(axes, COURSES.items(), strict=True):
        series = {
            reading: (
                COLOURS[i],
                [
                    cells.values(
                        course.data, m, course.metric, options(m, reading, course.data), course.epochs
                    ).values()
                    for m in METHODS
                ],
            )
            for i, reading in enumerate(READINGS)
        }
        grouped_bars(axis, list(METHODS), series)
        axis.set(title=f"{name}, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "two_readings.svg")
