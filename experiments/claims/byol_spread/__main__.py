"""Are BYOL's embeddings less uniform than contrastive ones, and do remedies spread them and help?

    python -m experiments.claims.byol_spread cifar10=/path/cifar10.npz

BYOL; with the uniformity measure of its projections; with the hyperspherical energy (MHE) of its weights for s = 0, 1,
2 and the half-space form; with a contrastive term; and SimCLR, which is contrastive throughout. Uniformity (Wang and
Isola, t = 2, lower is more uniform) and class structure are those of the test images' embeddings.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main
from experiments.verdict import Verdict

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = (
    "BYOL's embeddings are less uniform than contrastive ones; a uniformity term, MHE or a contrastive term "
    "spreads them and improves accuracy (2105.00925)"
)
COMMAND = "python -m experiments.claims.byol_spread cifar10=PATH"
BASE, RIVAL = ("byol", ""), ("simclr", "")
REMEDIES = {
    "+ uniformity": ("byol-uniformity", ""),
    "+ contrastive": ("byol+contrastive", ""),
    "+ MHE, s = 2": ("byol-mhe", ""),
    "+ MHE, s = 1": ("byol-mhe", "method.options.power=1"),
    "+ MHE, s = 0": ("byol-mhe", "method.options.power=0"),
    "+ MHE, half-space": ("byol-mhe", "method.options.half_space=true"),
}
SHOWN = {
    "uniformity": ("uniformity", 2),
    "Fisher ratio": ("fisher", 3),
    "angle of class means": ("class_angle", 0),
    "k-NN": ("knn", 1),
    "linear": ("linear", 1),
}
ARMS = {"BYOL": BASE, **REMEDIES, "SimCLR": RIVAL}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    for seed in (0, 1, 2):
        yield from (job("cifar10", m, seed, options) for m, options in ARMS.values())


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells = Cells(rows)
    tried = [arm for name, arm in ARMS.items() if name in REMEDIES and cells.of("cifar10", *arm)]
    base = cells.mean("cifar10", "byol", "uniformity")
    spreads = sum(cells.mean("cifar10", m, "uniformity", o) < base - 0.05 for m, o in tried)
    separates = sum(
        cells.mean("cifar10", m, "fisher", o) > cells.mean("cifar10", "byol", "fisher") for m, o in tried
    )
    helps, reads = (
        sum(
            gain > 2 * error
            for gain, error in (cells.gain("cifar10", m, "byol", metric, o) for m, o in tried)
        )
        for metric in ("knn", "linear")
    )
    contrastive = cells.mean("cifar10", "simclr", "uniformity") < base
    word = "holds in part" if contrastive else "does not hold"
    return Verdict(
        "holds" if contrastive and spreads == helps == separates == len(tried) else word,
        f"Of {len(tried)} remedies {spreads} spread the embeddings, {helps} raise k-NN and {reads} the linear probe by "
        f"two standard errors; the Fisher ratio of the classes among the embeddings rises with {separates}",
        [
            cells.table(
                "CIFAR-10: spread and classes of the embeddings (uniformity: lower is more uniform; Fisher ratio of "
                "classes), accuracy of the backbone in % ± standard error",
                ARMS,
                {title: ("cifar10", metric, digits) for title, (metric, digits) in SHOWN.items()},
            )
        ],
        "whether the gain lasts when BYOL has trained for as long as it needs: `--tier resnet18`",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, (left, right) = panels(1, 2, width=4.2, height=3.0)
    for i, (name, (method, options)) in enumerate(ARMS.items()):
        x = list(cells.values("cifar10", method, "uniformity", options).values())
        for axis, metric in ((left, "knn"), (right, "fisher")):
            y = list(cells.values("cifar10", method, metric, options).values())
            if not y:
                continue
            size = min(len(x), len(y))
            axis.plot(x[-size:], y[-size:], "o", color=COLOURS[i], markersize=6, label=name)
    left.set(title="k-NN, %", xlabel="uniformity of embeddings (left: more uniform)")
    right.set(title="Fisher ratio of the classes", xlabel="uniformity of embeddings")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "byol_spread.svg")
