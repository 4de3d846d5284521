"""Does it learn on real images? Trains and evaluates with all defaults, several seeds, and tabulates.

    python -m experiments.real_images.run cifar10=/path/cifar10.npz imagenette128=/path/imagenette128 --minutes 5

The data are given as NAME=SPEC. A row per data set, seed and kind of features: k-NN accuracy (k = 20, percent, 95 %
interval) of the trained encoder, the untrained one, raw pixels and whitened PCA. Rows in the file are skipped.
"""

import tempfile
from pathlib import Path

import torch
import yaml

from experiments.command import count, number, parser
from experiments.records import Table
from isosphere import train

KEY = ("data", "seed", "minutes", "features")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="+", metavar="NAME=SPEC")
    options.add_argument("--minutes", type=number, default=5)
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument(
        "--set", action="append", default=[], help="section.key=value, as of isosphere train"
    )
    options.add_argument("--threads", type=count, default=1)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results.csv")
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    settings = {k: yaml.safe_load(v) for k, v in (item.split("=", 1) for item in a.set)}
    table = Table(a.out, KEY, ("metric", "value", "low", "high", "images"))
    for seed in a.seeds.split(","):
        for name, _, spec in (item.partition("=") for item in a.data):
            key = {"data": name, "seed": seed, "minutes": a.minutes}
            if key | {"features": "trained/backbone"} in table:
                continue
            with tempfile.TemporaryDirectory() as folder:
                run = train(spec, Path(folder) / "run", minutes=a.minutes, seed=int(seed), set=settings)
                found = run.evaluate(spec, tasks="knn")["knn"]
            for figure in found.find(metric="accuracy"):
                numbers = {k: f"{100 * v:.2f}" for k, v in figure.estimate.as_dict().items()}
                features = "/".join(filter(None, (figure.model, figure.layer)))
                images = found.protocol["test_images"]
                table.append(key | {"features": features, "metric": "knn", "images": images} | numbers)


if __name__ == "__main__":
    main()
