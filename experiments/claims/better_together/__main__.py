"""Do combinations that no paper tried beat both of their parents at equal length?

    python -m experiments.claims.better_together cifar10=/path/cifar10.npz imagenette=/path/imagenette

k-NN of the backbone on class-like data, Recall@1 of the head on wood, every cell with the table's data, encoder, views
and epochs, each regulariser at its balanced weight; on CIFAR-10 for four times these epochs too, as predictors and slow
teachers are slow starters. A combination beats a parent where it is above it by two standard errors.
"""

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, Course, main
from experiments.verdict import Figures, Verdict

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = (
    "Combinations beat both parents: BYOL + MMD, BYOL + KL, VJE + MMD, KL + a slow teacher, MMD + KL, KL at two depths "
    "(our own)"
)
COMMAND = "python -m experiments.claims.better_together cifar10=PATH imagenette=PATH"
COMBINATIONS = {
    "byol+mmd": ("byol", "mmd-heat"),
    "byol+kl": ("byol", "kl-vmf"),
    "vje+mmd": ("vje", "mmd-heat"),
    "kl-ema": ("byol", "kl-vmf"),
    "mmd+kl": ("mmd-heat", "kl-vmf"),
    "kl-deep": ("kl-vmf", "kl without a head"),
}
VARIANTS = {"kl without a head": ("kl-deep", "method.options.features=1")}
"""Parents that are a method with options."""
COURSES = {
    "CIFAR-10": Course("cifar10", "knn"),
    "wood": Course("wood", "recall1_head"),
    "imagenette": Course("imagenette", "knn"),
    "CIFAR-10, 40 epochs": Course("cifar10", "knn", 40),
}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    names = [*COMBINATIONS, *dict.fromkeys(p for parents in COMBINATIONS.values() for p in parents)]
    for seed in (0, 1, 2):
        for course in COURSES.values():
            for name in names:
                method, options = _cell(name)
                yield job(course.data, method, seed, options, course.epochs)


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells, compared = Cells(rows), []
    made = []
    for combination, parents in COMBINATIONS.items():
        shown = []
        for course in COURSES.values():
            if not all(_values(cells, course, m) for m in (combination, *parents)):
                shown.append("")
                continue
            data, metric, epochs = astuple(course)
            gains = [
                cells.gain(data, combination, method, metric, "", options, epochs)
                for method, options in map(_cell, parents)
            ]
            compared.append([gain / error for gain, error in gains])
            over = ", ".join(f"{gain:+.1f}" for gain, _ in gains)
            shown.append(f"{cells.told(data, combination, metric, '', epochs)} ({over})")
        if any(shown):
            made.append([combination, " and ".join(parents), *shown])
    wins = sum(min(z) > 2 for z in compared)
    losses = sum(min(z) < -2 for z in compared)
    return Verdict(
        "holds" if wins > len(compared) / 2 else "does not hold" if losses > wins else "in part",
        f"Above both parents by two standard errors in {wins} of {len(compared)} comparisons, below one of them in "
        f"{losses}",
        [
            Figures(
                "k-NN of the backbone on CIFAR-10 and imagenette, Recall@1 of the head on wood, % ± standard error "
                "(over the first, over the second parent)",
                ["combination", "parents", *COURSES],
                made,
            )
        ],
        "a larger network and all images: `--tier resnet18`",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axes = panels(2, 2, width=4.2, height=2.8)
    for axis, (title, course) in zip(axes.flat, COURSES.items(), strict=True):
        families = [(*parents, combination) for combination, parents in COMBINATIONS.items()]
        members = zip(
            ("first parent", "second parent", "combination"),
            (9, 5, 0),
            zip(*families, strict=True),
            strict=True,
        )
        series = {
            who: (COLOURS[colour], [_values(cells, course, m).values() for m in methods])
            for who, colour, methods in members
        }
        grouped_bars(axis, list(COMBINATIONS), series)
        axis.tick_params(axis="x", rotation=30)
        axis.set(title=f"{title}, %")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    save(figure, path)


def _cell(name: str) -> tuple[str, str]:
    """Method and options of a combination or a parent."""
    return VARIANTS.get(name, (name, ""))


def _values(cells: Cells, course: Course, name: str) -> dict[int, float]:
    method, options = _cell(name)
    return cells.values(course.data, method, course.metric, options, course.epochs)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "better_together.svg")
