"""Cells of one table, each trained in a process of its own; the claims take theirs from here too."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.command import count, parser
from experiments.methods.cell import BASELINES, DATA, METRICS
from experiments.records import Table

RESULTS = Path(__file__).parent / "results.csv"
KEY = ("data", "method", "options", "epochs", "seed")
CELL = KEY[:-1]
"""What the seeds of a row are averaged in."""
EPOCHS = {"cifar10": 10, "imagenette": 10, "wood": 12, "cloud": 12, "disk": 12, "flake": 12}
LONGER = 10
"""Epochs of a GPU's cell over those of the small one."""


def results(path: Path = RESULTS) -> Table:
    return Table(path, KEY, METRICS, judged=True)


def job(
    data: str, method: str, seed: int = 0, options: str = "", epochs: int | None = None
) -> dict[str, Any]:
    """The key of one cell; ``options``: ``section.key=value;...``; ``epochs``: left out, the table's own
    length; a baseline is not trained.
    """
    length = 0 if method in BASELINES else EPOCHS[data] if epochs is None else epochs
    return {"data": data, "method": method, "options": options, "epochs": length, "seed": seed}


def large(job: dict[str, Any], tier: str) -> dict[str, Any]:
    """The cell of a GPU that answers to one of two cores: all images, a larger network, ten times the epochs."""
    return job | {"data": f"{job['data']}-{tier}", "epochs": LONGER * int(job["epochs"])}


def small(rows: Iterable[dict[str, str]], tier: str) -> list[dict[str, str]]:
    """The rows of a tier under the names of the small one: what is asked of these can be asked of those."""
    return [
        row | {"data": source_of(row["data"]), "epochs": str(int(row["epochs"]) // LONGER), "tier": tier}
        for row in rows
        if row["data"].endswith(f"-{tier}")
    ]


def source_of(data: str) -> str:
    """The name by which a source is given: ``cifar10`` of ``cifar10-vit-s``."""
    return data.partition("-")[0]


def fill(
    jobs: Iterable[dict[str, Any]],
    specs: dict[str, str],
    *,
    budget: str,
    threads: int = 1,
    out: Path = RESULTS,
) -> None:
    """Train and evaluate the jobs that the table does not have, while the next one fits into the budget.

    A job on data that were not named is left out; one that another call has finished meanwhile too.
    """
    torch.set_num_threads(threads)  # rows say by how many they were made
    deadline, longest = time.monotonic() + 60 * minutes(budget), dict.fromkeys(specs, 0.0)
    for wanted in jobs:
        rows = results(out)
        name = source_of(wanted["data"])
        if name not in specs or wanted in rows or time.monotonic() + longest[name] > deadline:
            continue
        started = time.monotonic()
        found = _in_a_process(wanted, specs, threads)
        took = time.monotonic() - started
        longest[name] = max(longest[name], took)
        rows.append(wanted | {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in found.items()})
        shown = found.get("knn", found.get("recall1_head", found.get("recall1")))
        told = " ".join(str(wanted[key]) for key in KEY if wanted[key] != "")
        print(f"{told}: {shown:.1f} in {took:.0f} s", flush=True)


def minutes(text: str) -> float:
    """``25m``, ``2h`` or a number of minutes."""
    return float(text[:-1]) * {"m": 1, "h": 60}[text[-1]] if text[-1] in "mh" else float(text)


def arguments(
    doc: str | None, *, names: Iterable[str] = EPOCHS, budget: str = "25m", draw: str = "train"
) -> argparse.ArgumentParser:
    """What every command that trains takes: data by these names, and how much of the machine."""
    options = parser(doc, draw=draw)
    options.add_argument("data", nargs="*", metavar="NAME=SPEC", help=f"of {', '.join(names)}")
    options.add_argument("--budget", default=budget, help="minutes (25m) or hours (2h) to spend")
    options.add_argument("--threads", type=count, default=1)
    return options


def sources(items: Sequence[str], *, textures: bool = True) -> dict[str, str]:
    """Data by name; textures need not be named."""
    named = dict(item.split("=", 1) for item in items)
    if strange := set(named) - set(EPOCHS):
        raise SystemExit(
            f"unknown data {sorted(strange)}: expected NAME=SPEC with a name of {', '.join(EPOCHS)}"
        )
    families = [name for name in EPOCHS if not DATA[name].labelled]
    built_in = {name: f"textures:{name}" for name in families} if textures else {}
    return built_in | named


def _in_a_process(job: dict[str, Any], specs: dict[str, str], threads: int) -> dict[str, Any]:
    given = json.dumps([job, specs[source_of(job["data"])], specs])
    command = [sys.executable, "-m", "experiments.methods", "--cell", given, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
