"""The papers' claims at a glance: builds ``experiments/README.md`` from the results that are committed.

    python -m experiments.ledger

A claim is a folder of ``experiments/claims`` whose ``__main__`` states ``CLAIM`` and ``COMMAND`` and gives
``verdict(rows) -> (word, sentence)`` from the rows of its ``results.csv``, nothing else.
"""

import csv
from importlib import import_module
from pathlib import Path

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
    for folder in sorted(path.parent for path in (HERE / "claims").glob("*/results.csv")):
        module = import_module(f"experiments.claims.{folder.name}.__main__")
        with (folder / "results.csv").open(newline="") as file:
            results = list(csv.DictReader(file))
        word, sentence = module.verdict(results)
        machines = ", ".join(dict.fromkeys(r["machine"] for r in results))
        lines.append(f"| {module.CLAIM} | **{word}** | {sentence} | `{module.COMMAND}` | {machines} |")
    return lines


def pictures() -> list[str]:
    found = sorted((HERE / "claims").glob("*/*.svg"))
    return [f"![{p.parent.name.replace('_', ' ')}]({p.relative_to(HERE)})" for p in found]


def main() -> None:
    text = HEADER + "\n".join(rows()) + "\n\n" + "\n\n".join(pictures()) + "\n" + OTHERS
    (HERE / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
