"""The tables of methods in ``docs/compared.md``: accuracy, longer trainings, and all else that is measured."""

from collections.abc import Iterable

from experiments.methods.cell import BASELINES, DATA
from experiments.methods.filling import CELL, EPOCHS
from experiments.records import newest, older
from experiments.trained import Cells, span
from experiments.verdict import Figures

__all__ = ["markdown", "tables"]


def markdown(rows: Iterable[dict[str, str]]) -> str:
    """The tables, and beneath them which protocol they are of where it is an older one."""
    every = newest(rows, CELL)
    parts = ["\n".join(figures.markdown()) for figures in tables(every)]
    return "\n\n".join([*parts, *filter(None, [older(every, "python -m experiments.methods")])])


def tables(rows: Iterable[dict[str, str]]) -> list[Figures]:
    """All of them, of plain cells: a mean over seeds with its standard error."""
    cells = Cells(rows)
    return [accuracy(cells), longer(cells), details(cells, "cifar10"), details(cells, "wood")]


def accuracy(cells: Cells) -> Figures:
    """Baselines, then the methods by their k-NN on CIFAR-10; plain cells, mean over their seeds."""
    names = [n for n in EPOCHS if any(r["data"] == n for r in cells.rows)]

    def shown(data: str, method: str) -> str:
        fixed = "recall1" if method in BASELINES[1:] else "recall1_head"
        told = cells.told(data, method, "knn" if DATA[data].labelled else fixed)
        return (
            f"{told} (collapsed)" if any(r["collapsed"] == "True" for r in cells.of(data, method)) else told
        )

    def rank(method: str) -> float:
        return (
            -1000 + BASELINES.index(method) if method in BASELINES else -cells.mean(names[0], method, "knn")
        )

    made = []
    for method in sorted(dict.fromkeys(r["method"] for r in cells.rows), key=rank):
        if counts := [n for n in (len(cells.of(data, method)) for data in names) if n]:
            made.append([method, *(shown(data, method) for data in names), span(counts)])
    metrics = {n: "knn" if DATA[n].labelled else "recall1_head" for n in names}
    heads = (f"{n}: {'k-NN' if DATA[n].labelled else 'Recall@1 of the head'}" for n in names)
    apart = ", ".join(f"{50 * cells.dispersion(n, metric):.1f} on {n}" for n, metric in metrics.items())
    return Figures(
        "Mean of the seeds in percent ± standard error, that of the test images and of the trainings (which at a rate "
        f"of one half differ by a standard deviation of {apart}) in squares",
        ["method", *heads, "seeds"],
        made,
    )


def details(cells: Cells, data: str) -> Figures:
    """Everything else that a plain cell measures on one data set; speed and memory of the fastest, leanest seed."""
    rates = (
        {
            "k-NN": "knn",
            "whitened": "knn_white",
            "of the head": "knn_head",
            "linear": "linear",
            "mAP": "map",
            "mAP, head": "map_head",
        }
        if DATA[data].labelled
        else {
            "Recall@1": "recall1",
            "of the head": "recall1_head",
            "@5, head": "recall5_head",
            "mAP, head": "mrr_head",
        }
    )
    shape = {"uniformity": 2, "alignment": 2, "effective_rank": 0, "r_star": 1, "r_min": 2}
    made = []
    for method in dict.fromkeys(r["method"] for r in cells.rows):
        if method in BASELINES or not (found := cells.of(data, method)):
            continue
        figures = [cells.told(data, method, metric) for metric in rates.values()]
        figures += [cells.told(data, method, metric, digits=k) for metric, k in shape.items()]
        figures.append(f"{max(float(r['images_per_second']) for r in found):.0f}")
        figures.append(f"{min(float(r['peak_mib']) for r in found):.0f}")
        made.append((-cells.mean(data, method, next(iter(rates.values()))), [method, *figures]))
    heads = [*rates, "uniformity", "alignment", "effective rank", "r\\*", "r_min", "images/s", "MiB"]
    return Figures(
        f"On {data}: rates in percent, geometry of the embeddings",
        ["method", *heads],
        [m for _, m in sorted(made)],
    )


def longer(cells: Cells) -> Figures:
    """The methods that were also trained for longer than the table's own length."""
    plain = {(r["method"], r["data"], int(r["epochs"])) for r in cells.rows if not r["options"]}
    courses = sorted({(d, e) for _, d, e in plain if d in EPOCHS and e > EPOCHS[d]})
    made = []
    for method in sorted({m for m, d, e in plain if (d, e) in courses}):
        shown = []
        for data, epochs in courses:
            metric = "knn" if DATA[data].labelled else "recall1_head"
            long, short = (cells.told(data, method, metric, "", e) for e in (epochs, None))
            shown.append(f"{long} ({short})" if long else "")
        made.append([method, *shown])
    heads = (f"{d}: {e} epochs ({EPOCHS[d]})" for d, e in courses)
    return Figures("Longer trainings, and in brackets the length above", ["method", *heads], made)
