"""Do combinations that no paper tried beat both of their parents at equal length?

    python -m experiments.claims.better_together cifar10=/path/cifar10.npz imagenette=/path/imagenette

k-NN of the backbone on class-like data, Recall@1 of the head on wood, every cell with the table's data, encoder, views
and epochs, each regulariser at its balanced weight. A combination beats a parent where it is above it by two standard
errors.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main
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
SETS = {"cifar10": "knn", "wood": "recall1_head", "imagenette": "knn"}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    names = [*COMBINATIONS, *dict.fromkeys(p for parents in COMBINATIONS.values() for p in parents)]
    for seed in (0, 1, 2):
        for data in SETS:
            for name in names:
                method, options = _cell(name)
                yield job(data, method, seed, options)


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells, compared = Cells(rows), []
    made = []
    for combination, parents in COMBINATIONS.items():
        shown = []
        for data, metric in SETS.items():
            if not all(_values(cells, data, m, metric) for m in (combination, *parents)):
                shown.append("")
                continue
            gains = [
                cells.gain(data, combination, method, metric, base_options=options)
                for method, options in map(_cell, parents)
            ]
            compared.append([gain / error for gain, error in gains])
            over = ", ".join(f"{gain:+.1f}" for gain, _ in gains)
            shown.append(f"{cells.told(data, combination, metric)} ({over})")
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
                ["combination", "parents", *SETS],
                made,
            )
        ],
        "predictors and slow teachers are slow starters, and 230 steps are short for them: `--tier resnet18` trains "
        "ten times as many epochs",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axes = panels(1, len(SETS), width=3.4, height=2.8)
    for axis, (data, metric) in zip(axes, SETS.items(), strict=True):
        families = [(*parents, combination) for combination, parents in COMBINATIONS.items()]
        members = zip(
            ("first parent", "second parent", "combination"),
            (9, 5, 0),
            zip(*families, strict=True),
            strict=True,
        )
        series = {
            who: (COLOURS[colour], [_values(cells, data, m, metric).values() for m in methods])
            for who, colour, methods in members
        }
        grouped_bars(axis, list(COMBINATIONS), series)
        axis.tick_params(axis="x", rotation=30)
        axis.set(title=f"{data}, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    save(figure, path)


def _cell(name: str) -> tuple[str, str]:
    """Method and options of a combination or a parent."""
    return VARIANTS.get(name, (name, ""))


def _values(cells: Cells, data: str, name: str, metric: str) -> dict[int, float]:
    method, options = _cell(name)
    return cells.values(data, method, metric, options)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "better_together.svg")
