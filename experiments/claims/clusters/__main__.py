"""Do MMD and KSD cluster embeddings where KL separates them, as the paper says of class-like data?

    python -m experiments.claims.clusters cifar10=/path/cifar10.npz imagenette=/path/imagenette

Test embeddings of the head at the balanced weight, CIFAR-10 and imagenette, the paper's kernels. *Clusters*: the
Fisher ratio of the classes (variance between over within) and the NMI of k-means with the classes. *Separates*: the
mean cosine to the nearest other image, which is lower where every image keeps away from its neighbours.

The rule, written after most of these cells were there and before they were asked this: for each of MMD and KSD, each
set and each of the three figures, the seeds are compared in pairs, and a comparison goes as the paper says if it does
in every seed that both have. Holds: at least 10 of the 12; in part: at least 6; else it does not hold.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main
from experiments.verdict import Verdict

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "MMD and KSD cluster the embeddings of class-like data, KL separates every image (2606.17603)"
COMMAND = "python -m experiments.claims.clusters cifar10=PATH imagenette=PATH"
KL, OTHERS = "kl-heat", ("mmd-heat", "ksd-heat")
SETS = ("cifar10", "imagenette")
SHAPE = {"fisher": "Fisher ratio", "nmi": "NMI of k-means", "neighbour_cosine": "cosine to the nearest"}
"""Figures that are larger where embeddings cluster."""


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    yield from (job(data, m, seed) for seed in (0, 1, 2) for data in SETS for m in (*OTHERS, KL))


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells, going, asked = Cells(rows), [], 0
    for other, data, metric in product(OTHERS, SETS, SHAPE):
        mine, theirs = (cells.values(data, m, metric) for m in (other, KL))
        if shared := mine.keys() & theirs.keys():
            asked += 1
            if all(mine[seed] > theirs[seed] for seed in shared):
                going.append(f"{SHAPE[metric]} of {other} on {data}")
    every = len(OTHERS) * len(SETS) * len(SHAPE)
    if asked < every:
        word = "cannot be decided before every cell is there"
    else:
        word = "holds" if len(going) >= 10 else "in part" if len(going) >= 6 else "does not hold"
    arms = {m: (m, "") for m in (*OTHERS, KL)}
    return Verdict(
        word,
        f"{len(going)} of {asked} comparisons go as the paper says in every seed"
        + (f": {', '.join(going)}" if 0 < len(going) < every else ""),
        [
            cells.table(
                f"Test embeddings of {data}",
                arms,
                {name: (data, metric, 3) for metric, name in SHAPE.items()},
            )
            for data in SETS
        ],
        "ImageNet-100, where the paper says it: `--tier resnet18`",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, axes = panels(1, len(SHAPE), width=3.0, height=2.6)
    for axis, (metric, name) in zip(axes, SHAPE.items(), strict=True):
        series = {
            m: (COLOURS[i], [cells.values(d, m, metric).values() for d in SETS])
            for i, m in enumerate((*OTHERS, KL))
        }
        grouped_bars(axis, list(SETS), series)
        axis.set(title=name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "clusters.svg")
