"""Do figures that need no labels put the checkpoints of a training in the order of their accuracy?

    python -m experiments.checkpoints --data CIFAR10.npz [--images 2000] [--epochs 10] [--limit 1000] [--seeds 0]

Trains each method with the weights of every epoch kept, ranks the checkpoints by the task ``checkpoints``, adds a row a
checkpoint to ``results.csv`` (what is there is not done again), prints Spearman's correlation of each figure with k-NN
accuracy within each training and across all of them, and draws both.
The rows within a training are a time series: a figure that merely drifts as long as accuracy rises scores 1 there, and
the intervals, which take rows as independent, are too narrow. Across trainings the methods differ in what their
figures mean. What the sample can decide is printed beside each number.
"""

import argparse
import tempfile
from pathlib import Path

from experiments.command import count, parser
from experiments.drawing import COLOURS, panels, save
from experiments.records import Table
from isosphere import train
from isosphere.evaluation import HIGHER_IS_BETTER, Correlation, TaskResult, spearman
from isosphere.report import MEASURES

HERE = Path(__file__).parent
METHODS = ("kl-vmf", "sphere-jepa", "simclr")
FIGURES = tuple(f"{layer}/{name}" for layer in ("head", "backbone") for name in HIGHER_IS_BETTER)
KEY = ("data", "encoder", "images", "epochs", "test_images", "method", "seed", "epoch")


def ranked(a: argparse.Namespace, method: str, seed: int, folder: Path) -> TaskResult:
    """The task ``checkpoints`` of a training whose weights of every epoch are kept."""
    run = train(
        a.data,
        folder,
        method=method,
        encoder="small-conv",
        seed=seed,
        epochs=a.epochs,
        batch_size=a.batch_size,
        set={
            **{"data.limit": a.images, "train.keep_every": 1, "train.tensorboard": False},
            **{"train.monitor": False, "train.knn_epochs": 0},
        },
    )
    return run.evaluate(a.data, tasks="checkpoints", limit=a.limit)["checkpoints"]


def agreement(rows: list[dict[str, str]], figure: str) -> Correlation:
    """Spearman's correlation of being in front by a figure with being accurate."""
    sign = 1 if HIGHER_IS_BETTER[figure.split("/")[1]] else -1
    return spearman([sign * float(r[figure]) for r in rows], [float(r["knn"]) for r in rows])


def write(table: Table, a: argparse.Namespace, method: str, seed: int, found: TaskResult) -> None:
    for epoch in range(1, a.epochs + 1):
        of_epoch = {f"{f.layer}/{f.metric}": f.estimate for f in found.find(model=f"epoch-{epoch}")}
        accuracy = of_epoch["backbone/accuracy"]
        table.append(
            settings(a)
            | {"method": method, "seed": seed, "epoch": epoch}
            | {name: f"{of_epoch[name].value:.6g}" for name in FIGURES}
            | {"knn": accuracy.value, "knn_low": accuracy.low, "knn_high": accuracy.high}
        )


def settings(a: argparse.Namespace) -> dict[str, object]:
    return {
        "data": Path(a.data).stem,
        "encoder": "small-conv",
        "images": a.images,
        "epochs": a.epochs,
        "test_images": a.limit,
    }


def tell(rows: list[dict[str, str]]) -> None:
    runs = list(dict.fromkeys((r["method"], r["seed"]) for r in rows))
    print(
        f"\nSpearman's rho of each figure with k-NN accuracy; within: {len(rows) // len(runs)} checkpoints each"
    )
    names = [f"{method} {seed}" for method, seed in runs]
    print(f"{'':34s}" + "".join(f"{n:>16s}" for n in names) + f"   all {len(rows)}, 95 % if independent")
    for figure in FIGURES:
        layer, name = figure.split("/")
        within = [agreement([r for r in rows if (r["method"], r["seed"]) == run], figure) for run in runs]
        across = agreement(rows, figure)
        cells = "".join(f"{found.value:16.2f}" for found in within)
        print(
            f"{MEASURES[name] + ', ' + layer:34s}{cells}   {across.value:.2f} [{across.low:.2f}, {across.high:.2f}]"
        )
    for method, seed in runs:
        own = [r for r in rows if (r["method"], r["seed"]) == (method, seed)]
        values = [float(r["knn"]) for r in own]
        width = max(float(r["knn_high"]) - float(r["knn_low"]) for r in own)
        print(
            f"{method} {seed}: k-NN from {100 * min(values):.1f} to {100 * max(values):.1f} %, "
            f"interval of one of them {100 * width:.1f} points wide"
        )


def draw(rows: list[dict[str, str]], path: Path) -> None:
    figure, axes = panels(2, 5, width=2.5, height=2.4, sharey=True)
    runs = list(dict.fromkeys((r["method"], r["seed"]) for r in rows))
    for axis, name in zip(axes.flat, FIGURES, strict=True):
        layer, measure = name.split("/")
        for i, (method, seed) in enumerate(runs):
            own = [r for r in rows if (r["method"], r["seed"]) == (method, seed)]
            x, y = ([float(r[key]) for r in own] for key in (name, "knn"))
            label = f"{method}" + (f", seed {seed}" if len({s for _, s in runs}) > 1 else "")
            axis.plot(
                x, [100 * v for v in y], "o-", color=COLOURS[i], markersize=3, linewidth=0.8, label=label
            )
        found = agreement(rows, name)
        axis.set_title(f"rho {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")
        axis.set_xlabel(f"{MEASURES[measure]}, {layer}")
    for axis in axes[:, 0]:
        axis.set_ylabel("k-NN accuracy, %")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
    save(figure, path)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", required=True, help="labelled images with a test part")
    options.add_argument("--images", type=count, default=2000, help="to train on")
    options.add_argument("--epochs", type=count, default=10)
    options.add_argument("--batch-size", type=count, default=128)
    options.add_argument(
        "--limit", type=count, default=1000, help="training and test images of the evaluation"
    )
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--methods", nargs="+", default=METHODS)
    options.add_argument("--results", type=Path, default=HERE / "results.csv")
    a = options.parse_args()
    table = Table(a.results, KEY, (*FIGURES, "knn", "knn_low", "knn_high"))
    for seed in a.seeds:
        for method in a.methods:
            if settings(a) | {"method": method, "seed": seed, "epoch": a.epochs} in table:
                continue
            with tempfile.TemporaryDirectory() as folder:
                write(table, a, method, seed, ranked(a, method, seed, Path(folder) / "run"))
    same = {name: str(value) for name, value in settings(a).items()}
    rows = [r for r in table if same.items() <= r.items()]
    tell(rows)
    draw(rows, a.results.with_name(f"{same['data']}-{a.images}-{a.epochs}.svg"))


if __name__ == "__main__":
    main()
