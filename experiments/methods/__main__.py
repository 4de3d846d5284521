"""Every method on the same data, encoder, views and number of epochs: fill the missing cells of one table.

    python -m experiments.methods --budget 25m cifar10=/path/cifar10.npz wood=textures:wood
    python -m experiments.methods --budget 1h --methods vje --options "method.options.degrees_of_freedom=3" cifar10=...

Each cell runs in a process of its own and is written to ``results.csv`` when it is done; a cell that would not fit
into what is left of the budget, by the length of those before it, is left for the next call. One seed for every
method, then two more for the systems of the papers. ``--table`` prints the table that stands in ``docs/methods.md``.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments.methods.cell import BASELINES, DATA, run
from experiments.methods.filling import EPOCHS, RESULTS, arguments, fill, job, results, sources
from experiments.records import Table
from experiments.trained import Cells, span
from experiments.verdict import Figures
from isosphere.methods import METHODS

OF_THE_PAPERS = (
    *("lejepa", "sphere-jepa", "mmd-heat", "mmd-bandlimited", "mmd-induced", "ksd-heat", "kl-vmf"),
    *("byol", "byol-uniformity", "byol-mhe", "vje"),
)


def jobs(
    methods: list[str] | None, options: str, names: list[str], epochs: int | None, seeds: list[int]
) -> Iterator[dict]:
    """Cells in the order of their worth: baselines, every method once, then more seeds for the papers' systems."""
    listed = methods or [*METHODS, "lightly-simclr"]
    rounds = [(0, [*BASELINES, *listed] if methods is None else listed)]
    rounds += [(seed, [m for m in listed if m in OF_THE_PAPERS or methods]) for seed in (1, 2)]
    for seed, chosen in (r for r in rounds if r[0] in seeds):
        for method in chosen:
            for name in names:
                if method == "descriptor" and DATA[name].labelled:
                    continue
                yield job(name, method, seed, options, epochs or None)


def table(rows: Table) -> Figures:
    """Baselines, then the methods by their k-NN on CIFAR-10; plain cells, mean over their seeds."""
    cells = Cells(rows)
    names = [n for n in EPOCHS if any(r["data"] == n for r in rows)]

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
    for method in sorted(dict.fromkeys(r["method"] for r in rows), key=rank):
        if counts := [n for n in (len(cells.of(data, method)) for data in names) if n]:
            made.append([method, *(shown(data, method) for data in names), span(counts)])
    heads = (f"{n}: {'k-NN' if DATA[n].labelled else 'Recall@1 of the head'}" for n in names)
    return Figures("Mean of the seeds in percent ± standard error", ["method", *heads, "seeds"], made)


def details(rows: Table, data: str) -> Figures:
    """Everything else that a plain cell measures on one data set; speed and memory of the fastest, leanest seed."""
    cells = Cells(rows)
    rates = (
        {"k-NN": "knn", "of the head": "knn_head", "linear": "linear", "mAP": "map", "mAP, head": "map_head"}
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
    for method in dict.fromkeys(r["method"] for r in rows):
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


def longer(rows: Table) -> Figures:
    """The methods that were also trained for longer than the table's own length."""
    cells = Cells(rows)
    plain = {(r["method"], r["data"], int(r["epochs"])) for r in rows if not r["options"]}
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


def main() -> None:
    if sys.argv[1:2] == ["--cell"]:
        torch.set_num_threads(int(sys.argv[3]))
        print(json.dumps(run(*json.loads(sys.argv[2]))))
        return
    parser = arguments(__doc__)
    parser.add_argument("--methods", help="comma-separated; left out: all")
    parser.add_argument("--options", default="", help="section.key=value;... for every cell of this call")
    parser.add_argument("--seeds", default="0,1,2", help="of these; in this order of rounds")
    parser.add_argument(
        "--only", help="train on these; left out: on all that are named (others are transferred to)"
    )
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    a = parser.parse_args()
    if a.table:
        rows = results(a.out)
        tables = (table(rows), longer(rows), details(rows, "cifar10"), details(rows, "wood"))
        print("\n\n".join("\n".join(t.markdown()) for t in tables))
        return
    specs, seeds = sources(a.data), [int(s) for s in a.seeds.split(",")]
    names = a.only.split(",") if a.only else list(sources(a.data, textures=False))
    wanted = jobs(a.methods.split(",") if a.methods else None, a.options, names, a.epochs, seeds)
    fill(wanted, specs, budget=a.budget, threads=a.threads, out=a.out)


if __name__ == "__main__":
    main()
