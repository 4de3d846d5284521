"""The papers' claims at a glance: builds ``experiments/README.md`` from the results that are committed.

    python -m experiments.ledger

A claim is a folder of ``experiments/claims`` whose ``__main__`` states ``CLAIM`` and ``COMMAND`` and gives
``verdict(rows) -> (word, sentence)`` from the rows of its ``results.csv`` and nothing else; or, where it states
``RESULTS``, from the cells of that table that its ``jobs`` name.
"""

import csv
from importlib import import_module
from pathlib import Path
from types import ModuleType

from experiments.trained import Cells

HERE = Path(__file__).parent
HEADER = """# Experiments

Claims of the papers, reproduced or refuted. Every row is computed by `python -m experiments.ledger` from the
`results.csv` of its folder, which holds commit, machine and versions; a doubt is settled by the row's command.

"""
OTHERS = """
Beside the claims: `power` (which statistic sees which departure from uniformity), `spectra` (what kernels differ in),
`methods` (every method on the same data, encoder, views and epochs), `weights` (which weight of the regulariser),
`real_images` (does the command learn on photographs). Each has its command in its first lines.
"""


def rows() -> list[str]:
    lines = ["| claim | verdict | what was found | command | machine |", "|---|---|---|---|---|"]
    for folder in sorted(path.parent for path in (HERE / "claims").glob("*/__main__.py")):
        module = import_module(f"experiments.claims.{folder.name}.__main__")
        if not (found := _results(module, folder / "results.csv")):
            continue
        word, sentence = module.verdict(found)
        machines = ", ".join(dict.fromkeys(r["machine"] for r in found))
        lines.append(f"| {module.CLAIM} | **{word}** | {sentence} | `{module.COMMAND}` | {machines} |")
    return lines


def _results(module: ModuleType, own: Path) -> list[dict[str, str]]:
    path = getattr(module, "RESULTS", own)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    if path == own:
        return found
    wanted = [{k: str(v) for k, v in job.items()} for job in module.jobs(Cells(found))]
    return [r for r in found if any(all(r[k] == v for k, v in job.items()) for job in wanted)]


def pictures() -> list[str]:
    found = sorted((HERE / "claims").glob("*/*.svg"))
    return [f"![{p.parent.name.replace('_', ' ')}]({p.relative_to(HERE)})" for p in found]


def main() -> None:
    text = HEADER + "\n".join(rows()) + "\n\n" + "\n\n".join(pictures()) + "\n" + OTHERS
    (HERE / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
