"""The chart of README on photographs: what adapting and distilling gain, from `adapted.csv` and `distillation.csv`.

    python -m experiments.pretrained.picture

Left: class mAP of the features of EfficientNet-Lite0, frozen and adapted without labels, one pass an image. Right: k-NN
accuracy of a small encoder after ten minutes on one CPU core, from scratch and distilled.
"""

from experiments.drawing import COLOURS, grouped_bars, panels, save
from experiments.pretrained.tables import HERE, rows

SETS = {
    "dtd": "textures\n(DTD)",
    "imagenette": "objects\n(Imagenette)",
    "cifar": "small\n(CIFAR-10)",
    "galaxies": "galaxies",
}
TRAINED = dict(zip(("dtd10", "imagenette", "cifar10", "galaxies"), SETS.values(), strict=True))


def adapted() -> dict[str, tuple[str, list[list[float]]]]:
    """Class mAP of every set, frozen and adapted."""
    found = {(r["set"], r["rule"]): float(r["map"]) for r in rows("adapted.csv") if _plain(r)}
    rules = {"frozen": ("frozen", COLOURS[9]), "adapted": ("default", COLOURS[0])}
    return {name: (colour, [[found[s, rule]] for s in SETS]) for name, (rule, colour) in rules.items()}


def distilled() -> dict[str, tuple[str, list[list[float]]]]:
    """k-NN accuracy of the backbone of every seed."""
    found = rows("distillation.csv")
    arms = {"from scratch": ("scratch", COLOURS[9]), "distilled": ("distilled", COLOURS[0])}

    def values(data: str, arm: str) -> list[float]:
        return [
            float(r["knn"])
            for r in found
            if (r["data"], r["arm"], r["encoder"], r["minutes"]) == (data, arm, "small-conv", "10")
        ]

    return {name: (colour, [values(data, arm) for data in TRAINED]) for name, (arm, colour) in arms.items()}


def _plain(row: dict[str, str]) -> bool:
    return row["network"] == "efficientnet-lite0" and row["passes"] == "1"


def main() -> None:
    figure, (left, right) = panels(1, 2, width=4.2, height=2.8)
    grouped_bars(left, list(SETS.values()), adapted())
    left.set(title="a frozen network, adapted", ylabel="class mAP, %", ylim=(0, 100))
    grouped_bars(right, list(TRAINED.values()), distilled())
    right.set(title="a small network, 10 minutes", ylabel="k-NN accuracy, %", ylim=(0, 100))
    for axis in (left, right):
        axis.legend(loc="upper right", ncols=2)
    save(figure, HERE / "photographs.svg")


if __name__ == "__main__":
    main()
