"""Is KL best on procedural textures and worst on class-like data, and do the embeddings differ as the paper says?

    python -m experiments.claims.kl_and_textures cifar10=/path/cifar10.npz imagenette=/path/imagenette

Textures: Recall@1 of the head in batches of 100, the mean reciprocal rank (the paper's mAP) of head and backbone, all
four families. Class-like: k-NN. All at the balanced weight; wood and CIFAR-10 also at the same expansion ratio r* = 10
and each at its own best of the cut-offs .35, .5, .7, chosen on images that the run did not see. The geometry is that of
test embeddings: deviation of the cosine of a pair in units of the uniform law's, mean cosine to the nearest image,
Fisher ratio and k-means NMI.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, listed, main, on_equal_terms

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "KL is best on procedural textures and worst on class-like data (2606.17603)"
COMMAND = "python -m experiments.claims.kl_and_textures cifar10=PATH imagenette=PATH"
KL = ("kl-heat", "kl-vmf")
OTHERS = ("mmd-heat", "ksd-heat", "sphere-jepa", "lejepa")
FAMILIES = ("cloud", "disk", "flake", "wood")
CLASSES = ("cifar10", "imagenette")
SHAPE = {"cosine_deviation": 2, "neighbour_cosine": 2, "fisher": 3, "nmi": 3}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    methods = (*KL, *OTHERS)
    yield from (job(data, m) for m in methods for data in (*FAMILIES, *CLASSES))
    for data in ("wood", "cifar10"):
        yield from on_equal_terms(cells, data, methods)
    yield from (job(data, m, seed) for seed in (1, 2) for data in (*CLASSES, *FAMILIES) for m in methods)


def over_families(cells: Cells, method: str, metric: str) -> float:
    return sum(cells.mean(f, method, metric) for f in FAMILIES) / len(FAMILIES)


def verdict(rows: Iterable[dict[str, str]]) -> tuple[str, str]:
    cells, methods = Cells(rows), (*KL, *OTHERS)
    recall = {m: over_families(cells, m, "recall1_head") for m in methods}
    backbone = {m: over_families(cells, m, "mrr") for m in methods}
    told = [
        f"Textures, mean of four families, Recall@1 of the head: {listed(recall)}",
        f"mAP of the backbone: {listed(backbone)}",
    ]
    told += [f"{d} k-NN: {cells.shown(d, methods, 'knn')}" for d in CLASSES if cells.shown(d, methods, "knn")]
    terms = (("wood", "recall1_head"), ("cifar10", "knn"))
    told += filter(None, (cells.on_terms(data, methods, metric) for data, metric in terms))
    shape = [
        f"{m} " + " / ".join(f"{cells.mean('cifar10', m, figure):.{k}f}" for figure, k in SHAPE.items())
        for m in methods
        if cells.values("cifar10", m, "fisher")
    ]
    told.append(
        "Embeddings of CIFAR-10 (deviation of cosines over the uniform law's / cosine to the nearest / Fisher / NMI): "
        + ", ".join(shape)
    )
    knn = [{m: cells.mean(d, m, "knn") for m in methods} for d in CLASSES]
    if not all(math.isfinite(v) for values in (recall, *knn) for v in values.values()):
        return "cannot be decided before every cell is there", ". ".join(told)
    first = max(recall[m] for m in KL) > max(recall[m] for m in OTHERS)
    last = all(min(k[m] for m in KL) < min(k[m] for m in OTHERS if m != "lejepa") for k in knn)
    word = {
        (True, True): "holds",
        (True, False): "best on textures holds, worst on class-like data does not",
        (False, True): "worst on class-like data holds, best on textures does not",
        (False, False): "does not hold",
    }[first, last]
    return word, ". ".join(told)


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, (left, right) = panels(1, 2, width=4.6, height=3.0)
    colours: dict[str, str] = dict(zip((*KL, *OTHERS), COLOURS, strict=False))
    for axis, names, metric in ((left, FAMILIES, "recall1_head"), (right, CLASSES, "knn")):
        grouped_bars(axis, names, cells.series(colours, names, metric))
    left.set(title="Textures: Recall@1 of the head, %")
    right.set(title="Class-like: k-NN, %", ylim=(25, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "kl_and_textures.svg")
