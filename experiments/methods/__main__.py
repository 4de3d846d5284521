"""Every method on the same data, encoder, views and number of epochs: fill the missing cells of one table.

    python -m experiments.methods --budget 25m cifar10=/path/cifar10.npz wood=textures:wood
    python -m experiments.methods --budget 1h --methods vje --options "method.options.degrees_of_freedom=3" cifar10=...

Each cell runs in a process of its own and is written to ``results.csv`` when it is done; a cell that would not fit
into what is left of the budget, by the length of those before it, is left for the next call. One seed for every
method, then two more for the systems of the papers. ``--table`` prints what stands in ``docs/compared.md``, which
``python -m experiments.ledger`` brings up to date.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments.command import count, integers
from experiments.methods.cell import BASELINES, DATA, FIXED, run
from experiments.methods.filling import RESULTS, arguments, fill, job, results, sources
from experiments.methods.tables import markdown
from isosphere.methods import METHODS
from isosphere.training import keep_freed_memory

OF_THE_PAPERS = (
    *("lejepa", "sphere-jepa", "mmd-heat", "mmd-bandlimited", "mmd-induced", "ksd-heat", "ksd-bandlimited"),
    *("kl-heat", "kl-vmf", "byol", "byol-uniformity", "byol-mhe", "vje"),
)
"""With the default method, and with BYOL, to which one of the papers adds."""


def jobs(
    methods: list[str] | None, options: str, names: list[str], epochs: int | None, seeds: list[int]
) -> Iterator[dict]:
    """Cells in the order of their worth: baselines, every method once, then more seeds for the papers' systems.

    An evaluation has pixels beside classes, and the descriptor beside textures.
    """
    listed = methods or [*METHODS, "lightly-simclr"]
    everything = [*BASELINES, *listed] if methods is None else listed
    again = [m for m in listed if m in OF_THE_PAPERS or methods]
    for seed in seeds:
        for method in again if seed else everything:
            for name in names:
                if method in FIXED and (method == "descriptor") == DATA[name].labelled:
                    continue
                yield job(name, method, seed, options, epochs or None)


def main() -> None:
    if sys.argv[1:2] == ["--cell"]:
        keep_freed_memory()
        torch.set_num_threads(int(sys.argv[3]))
        print(json.dumps(run(*json.loads(sys.argv[2]))))
        return
    parser = arguments(__doc__, draw="")
    parser.add_argument("--methods", help="comma-separated; left out: all")
    parser.add_argument("--options", default="", help="section.key=value;... for every cell of this call")
    parser.add_argument("--seeds", type=integers, default="0,1,2", help="a round for each, in this order")
    parser.add_argument(
        "--only", help="train on these; left out: on all that are named (others are transferred to)"
    )
    parser.add_argument("--epochs", type=count)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    a = parser.parse_args()
    if a.table:
        print(markdown(results(a.out)))
        return
    specs = sources(a.data)
    names = a.only.split(",") if a.only else list(sources(a.data, textures=False))
    wanted = jobs(a.methods.split(",") if a.methods else None, a.options, names, a.epochs, a.seeds)
    fill(wanted, specs, budget=a.budget, threads=a.threads, out=a.out)


if __name__ == "__main__":
    main()
