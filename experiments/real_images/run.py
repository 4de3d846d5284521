"""Does the command learn on real images? Trains and evaluates with `isosphere`, several seeds, and tabulates.

    python experiments/real_images/run.py cifar10=/path/cifar10.npz imagenette128=/path/imagenette128 \
        --minutes 5 --seeds 0,1,2 --out experiments/real_images/results.csv

The data are given as NAME=SPEC. A row per data set, seed and kind of features: k-NN accuracy (k = 20, percent, 95 %
interval) of the trained encoder, the untrained one, raw pixels and whitened PCA. Rows in the file are skipped.
"""

import argparse
import csv
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

COLUMNS = [
    "data",
    "seed",
    "minutes",
    "features",
    "metric",
    "value",
    "low",
    "high",
    "images",
    "commit",
    "machine",
    "torch",
]


def isosphere(*words: str) -> None:
    code = "import sys; from isosphere.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="NAME=SPEC")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], help="passed on to isosphere train")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.csv")
    a = parser.parse_args()
    done = set()
    if a.out.exists():
        with a.out.open() as file:
            done = {(row["data"], row["seed"]) for row in csv.DictReader(file)}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    for seed in a.seeds.split(","):
        for name, _, spec in (item.partition("=") for item in a.data):
            if (name, seed) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                run = str(Path(folder) / "run")
                settings = [word for item in a.set for word in ("--set", item)]
                isosphere(
                    "train", spec, "--out", run, "--minutes", f"{a.minutes:g}", "--seed", seed, *settings
                )
                isosphere("evaluate", run, spec, "--tasks", "knn")
                evaluation = json.loads((Path(run) / "evaluation.json").read_text())
            fresh = not a.out.exists()
            with a.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if fresh:
                    writer.writeheader()
                for features, metric, estimate, images in rows(evaluation):
                    figures = {k: f"{100 * estimate[k]:.2f}" for k in ("value", "low", "high")}
                    where = {
                        "images": images,
                        "commit": commit,
                        "machine": machine,
                        "torch": torch.__version__,
                    }
                    what = {
                        "data": name,
                        "seed": seed,
                        "minutes": a.minutes,
                        "features": features,
                        "metric": metric,
                    }
                    writer.writerow(what | figures | where)


def rows(evaluation: dict) -> Iterator[tuple[str, str, dict, int]]:
    """(features, metric, estimate, test images) of every k-NN figure in an evaluation."""
    for key, estimate in evaluation["knn"].items():
        if isinstance(estimate, dict) and {"value", "low", "high"} <= estimate.keys():
            yield key, "knn", estimate, evaluation["knn"]["protocol"]["test_images"]


if __name__ == "__main__":
    main()
