"""Every method on the same data, encoder, views and number of epochs: fill the missing cells of one table.

    python -m experiments.methods --budget 25m cifar10=/path/cifar10.npz wood=textures:wood
    python -m experiments.methods --budget 1h --methods vje --options "method.options.nu=3" cifar10=...

Each cell runs in a process of its own and is written to ``results.csv`` when it is done; a cell that would not fit
into what is left of the budget, by the length of those before it, is left for the next call. One seed for every
method, then two more for the systems of the papers. ``--table`` prints the table that stands in ``docs/methods.md``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments.methods.cell import BASELINES, DATA, METRICS, run
from experiments.records import Table
from isosphere.methods import METHODS

HERE = Path(__file__).parent
KEY = ("data", "method", "options", "epochs", "seed")
EPOCHS = {"cifar10": 10, "imagenette": 10, "wood": 12}
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
                length = 0 if method in BASELINES else epochs or EPOCHS[name]
                yield {"data": name, "method": method, "options": options, "epochs": length, "seed": seed}


def minutes(text: str) -> float:
    return float(text[:-1]) * {"m": 1, "h": 60}[text[-1]] if text[-1] in "mh" else float(text)


def in_a_process(job: dict, spec: str, threads: int) -> dict:
    command = [sys.executable, "-m", "experiments.methods", "--cell", json.dumps([job, spec])]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: Table) -> Iterator[str]:
    """Mean over seeds in percent, with the interval of the first seed, one line a method."""
    names = [n for n in DATA if any(r["data"] == n for r in rows)]
    heads = {n: "k-NN" if DATA[n].labelled else "Recall@1 of the head" for n in names}
    yield "| method | " + " | ".join(f"{n}: {heads[n]}" for n in names) + " | seeds |"
    yield "|---" * (len(names) + 2) + "|"
    plain = [r for r in rows if not r["options"]]
    for method in dict.fromkeys(r["method"] for r in plain):
        cells, seeds = [], 0
        for name in names:
            mine = [r for r in plain if (r["data"], r["method"]) == (name, method)]
            key = "knn" if DATA[name].labelled else ("recall1" if method in BASELINES[1:] else "recall1_head")
            if not mine:
                cells.append("")
                continue
            values = [float(r[key]) for r in mine]
            seeds = max(seeds, len(values))
            low, high = mine[0][f"{key}_low"], mine[0][f"{key}_high"]
            note = " (collapsed)" if mine[0]["collapsed"] == "True" else ""
            cells.append(f"{sum(values) / len(values):.1f} [{float(low):.1f}, {float(high):.1f}]{note}")
        yield f"| {method} | " + " | ".join(cells) + f" | {seeds} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", metavar="NAME=SPEC", help=f"of {', '.join(DATA)}")
    parser.add_argument("--budget", default="25m", help="minutes (25m) or hours (2h) to spend")
    parser.add_argument("--methods", help="comma-separated; left out: all")
    parser.add_argument("--options", default="", help="section.key=value;... for every cell of this call")
    parser.add_argument("--seeds", default="0,1,2", help="of these; in this order of rounds")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results.csv")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    if a.cell:
        job, spec = json.loads(a.cell)
        print(json.dumps(run(job, spec)))
        return
    rows = Table(a.out, KEY, METRICS)
    if a.table:
        print("\n".join(table(rows)))
        return
    specs = dict(item.split("=", 1) for item in a.data)
    deadline, longest = time.monotonic() + 60 * minutes(a.budget), dict.fromkeys(specs, 0.0)
    seeds = [int(s) for s in a.seeds.split(",")]
    for job in jobs(a.methods.split(",") if a.methods else None, a.options, list(specs), a.epochs, seeds):
        if job in rows or time.monotonic() + longest[job["data"]] > deadline:
            continue
        started = time.monotonic()
        found = in_a_process(job, specs[job["data"]], a.threads)
        took = time.monotonic() - started
        longest[job["data"]] = max(longest[job["data"]], took)
        rows.append(job | {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in found.items()})
        shown = found.get("knn", found.get("recall1_head", found.get("recall1")))
        print(
            f"{job['data']} {job['method']} {job['options']} seed {job['seed']}: {shown:.1f} in {took:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
