"""SPHERE-JEPA against LeJEPA: textures, class-like data, transfer; with and without the slow teacher; and BYOL's head.

    python -m experiments.claims.sphere_against_lejepa cifar10=/path/cifar10.npz imagenette=/path/imagenette

Both at the balanced weight, the same cut-off of the spectrum; wood and CIFAR-10 also at the same expansion ratio
r* = 10 and each at its own best of the cut-offs .35, .5, .7, chosen on images that the run did not see. Textures: mean
reciprocal rank (the paper's mAP) of head and backbone. Transfer: the frozen backbone of one set, k-NN and linear probe
on another (CIFAR-10 to imagenette at 32 px and back; textures to CIFAR-10).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.methods.filling import job
from experiments.trained import RESULTS, Cells, main, on_equal_terms

__all__ = ["RESULTS"]

HERE = Path(__file__).parent
CLAIM = (
    "SPHERE-JEPA beats LeJEPA on textures (by 6 points of mAP) and equals it on class-like data (2605.26900)"
)
COMMAND = "python -m experiments.claims.sphere_against_lejepa cifar10=PATH imagenette=PATH"
OURS, THEIRS = "sphere-jepa", "lejepa"
FAMILIES = ("cloud", "disk", "flake", "wood")
CLASSES = ("cifar10", "imagenette")


def jobs(cells: Cells) -> Iterator[dict[str, Any]]:
    yield from (job(data, m) for data in (*FAMILIES, *CLASSES) for m in (OURS, THEIRS))
    yield from (job(data, m) for data in FAMILIES for m in ("byol",))
    yield from (job(data, f"{m}-ema") for data in ("cifar10", "wood") for m in (OURS, THEIRS))
    for data in ("wood", "cifar10"):
        yield from on_equal_terms(cells, data, (OURS, THEIRS))
    yield from (job(data, m, s) for s in (1, 2) for data in (*CLASSES, *FAMILIES) for m in (OURS, THEIRS))


def verdict(rows: Iterable[dict[str, str]]) -> tuple[str, str]:
    cells = Cells(rows)
    gains = {f: cells.gain(f, OURS, THEIRS, "mrr_head") for f in FAMILIES}
    gains = {f: g for f, g in gains.items() if g[0] == g[0]}
    mean = sum(g[0] for g in gains.values()) / max(1, len(gains))
    back = sum(cells.gain(f, OURS, THEIRS, "mrr")[0] for f in gains) / max(1, len(gains))
    classes = {d: cells.gain(d, OURS, THEIRS, "knn") for d in CLASSES if cells.of(d, THEIRS)}
    told = [
        f"mAP of the head, SPHERE less LeJEPA: {mean:+.1f} over "
        + ", ".join(f"{f} {g:+.1f} ± {e:.1f}" for f, (g, e) in gains.items())
        + f"; of the backbone {back:+.1f}",
        "k-NN: " + ", ".join(f"{d} {g:+.1f} ± {e:.1f}" for d, (g, e) in classes.items()),
        "transfer, k-NN: "
        + ", ".join(
            f"{d} to {cells.of(d, OURS)[-1]['transfer']} {cells.gain(d, OURS, THEIRS, 'transfer_knn')[0]:+.1f}"
            for d in (*CLASSES, *FAMILIES)
            if cells.values(d, THEIRS, "transfer_knn") and cells.values(d, OURS, "transfer_knn")
        ),
    ]
    slow = [
        f"{d} {m} {cells.mean(d, f'{m}-ema', metric):.1f} with, {cells.mean(d, m, metric):.1f} without"
        for d, metric in (("cifar10", "knn"), ("wood", "mrr_head"))
        for m in (OURS, THEIRS)
        if cells.of(d, f"{m}-ema")
    ]
    if slow:
        told.append("teacher: " + ", ".join(slow))
    heads = {f: cells.mean(f, "byol", "mrr_head") for f in FAMILIES if cells.of(f, "byol")}
    if heads:
        over = [f for f, v in heads.items() if v > cells.mean(f, OURS, "mrr_head")]
        told.append(
            "BYOL's head: "
            + ", ".join(f"{f} {v:.1f}" for f, v in heads.items())
            + (f", above SPHERE-JEPA's on {', '.join(over)}" if over else ", below SPHERE-JEPA's everywhere")
        )
    terms = (("wood", "mrr_head"), ("cifar10", "knn"))
    told += filter(None, (cells.on_terms(data, (OURS, THEIRS), metric) for data, metric in terms))
    equal = all(g > -2 * e for g, e in classes.values())
    word = "holds" if mean > 3 and equal else "does not hold" if mean < 0 else "in part"
    return word, ". ".join(told)


def draw(rows: Iterable[dict[str, str]], path: Path) -> None:
    cells = Cells(rows)
    figure, (left, right) = panels(1, 2, width=4.4, height=2.8)
    colours = {OURS: COLOURS[0], THEIRS: COLOURS[1], "byol": COLOURS[9]}
    for axis, names, metric in ((left, FAMILIES, "mrr_head"), (right, CLASSES, "knn")):
        grouped_bars(axis, names, cells.series(colours, names, metric))
    left.set(title="Textures: mAP of the head, %")
    right.set(title="Class-like: k-NN, %", ylim=(25, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main(__doc__, jobs, draw, HERE / "sphere_against_lejepa.svg")
