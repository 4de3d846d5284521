"""Is KL best on procedural textures and worst on class-like data, and do the embeddings differ as the paper says?

    python -m experiments.claims.kl_and_textures cifar10=/path/cifar10.npz imagenette=/path/imagenette

Textures: Recall@1 of the head in batches of 100, the mean reciprocal rank (the paper's mAP) of head and backbone, all
four families. Class-like: k-NN. All at the balanced weight; wood and CIFAR-10 also at the same expansion ratio r* = 10
and each at its own best of four or more weights, chosen on images that the run did not see. The geometry is that of
test embeddings: deviation of the cosine of a pair in units of the uniform law's, mean cosine to the nearest image,
Fisher ratio and k-means NMI.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, bars, main, on_equal_terms
from experiments.verdict import Figures, Verdict

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = "KL is best on procedural textures and worst on class-like data (2606.17603)"
COMMAND = "python -m experiments.claims.kl_and_textures cifar10=PATH imagenette=PATH"
KL = ("kl-heat", "kl-vmf")
OTHERS = ("mmd-heat", "ksd-heat", "sphere-jepa", "lejepa")
FAMILIES = ("cloud", "disk", "flake", "wood")
CLASSES = ("cifar10", "imagenette")
SHAPE = {
    "deviation of cosines over the uniform law's": ("cifar10", "cosine_deviation", 2),
    "cosine to the nearest": ("cifar10", "neighbour_cosine", 2),
    "Fisher ratio": ("cifar10", "fisher", 3),
    "NMI of k-means": ("cifar10", "nmi", 3),
}
RETRIEVAL = {
    "Recall@1, head": "recall1_head",
    "@3": "recall3_head",
    "@5": "recall5_head",
    "mAP, head": "mrr_head",
    "mAP, backbone": "mrr",
}


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    methods = (*KL, *OTHERS)
    yield from (job(data, m) for m in methods for data in (*FAMILIES, *CLASSES))
    for data in ("wood", "cifar10"):
        yield from on_equal_terms(cells, data, methods)
    yield from (job(data, m, seed) for seed in (1, 2) for data in (*CLASSES, *FAMILIES) for m in methods)


def verdict(rows: Iterable[dict[str, str]]) -> Verdict:
    cells, methods = Cells(rows), (*KL, *OTHERS)

    def over_families(method: str, metric: str) -> float:
        return sum(cells.mean(f, method, metric) for f in FAMILIES) / len(FAMILIES)

    recall = {m: over_families(m, "recall1_head") for m in methods}
    knn = [{m: cells.mean(d, m, "knn") for m in methods} for d in CLASSES]
    if all(math.isfinite(v) for values in (recall, *knn) for v in values.values()):
        first = max(recall[m] for m in KL) > max(recall[m] for m in OTHERS)
        last = all(min(k[m] for m in KL) < min(k[m] for m in OTHERS if m != "lejepa") for k in knn)
        word = {
            (True, True): "holds",
            (True, False): "best on textures holds, worst on class-like data does not",
            (False, True): "worst on class-like data holds, best on textures does not",
            (False, False): "does not hold",
        }[first, last]
        leader = max(methods, key=lambda m: recall[m])
        leaders = {d: max(methods, key=lambda m, k=k: k[m]) for d, k in zip(CLASSES, knn, strict=True)}
        sentence = (
            f"Over the four families {leader} leads with {recall[leader]:.1f} Recall@1; on class-like data "
            + ", ".join(f"{m} does on {d}" for d, m in leaders.items())
        )
    else:
        word, sentence = "cannot be decided before every cell is there", "Some cells are missing"
    arms = {m: (m, "") for m in methods}
    means = [
        [
            m,
            *(
                f"{v:.1f}" if math.isfinite(v) else ""
                for v in (over_families(m, f) for f in RETRIEVAL.values())
            ),
        ]
        for m in methods
    ]
    return Verdict(
        word,
        sentence,
        [
            cells.table(
                "Recall@1 of the head on textures, k-NN of the backbone on photographs, % ± standard error",
                arms,
                {f: (f, "recall1_head", 1) for f in FAMILIES} | {d: (d, "knn", 1) for d in CLASSES},
            ),
            Figures("Retrieval, mean of the four families", ["", *RETRIEVAL], means),
            *(
                cells.terms_table(
                    data,
                    methods,
                    metric,
                    f"{data} on equal terms (the weight in brackets was chosen on unseen images)",
                )
                for data, metric in (("wood", "recall1_head"), ("cifar10", "knn"))
            ),
            cells.table("How embeddings of CIFAR-10 lie", arms, SHAPE),
        ],
        "the paper's order on ImageNet-100, where KL is five points behind: longer training, more classes, "
        "`--tier resnet18`",
    )


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    colours: dict[str, str] = dict(zip((*KL, *OTHERS), COLOURS, strict=False))
    titles = {
        "Textures: Recall@1 of the head, %": (FAMILIES, "recall1_head"),
        "Class-like: k-NN, %": (CLASSES, "knn"),
    }
    bars(Cells(rows), colours, titles, path, width=4.6, height=3.0, legend=6)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "kl_and_textures.svg")
