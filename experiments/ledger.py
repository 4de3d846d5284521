"""The papers' claims at a glance: builds ``experiments/README.md`` and the tables of README and of
``docs/methods.md`` from committed results.

    python -m experiments.ledger

A claim is a folder of ``experiments/claims`` whose ``__main__`` states ``CLAIM`` and ``COMMAND`` and gives
``verdict(rows) -> Verdict`` from the rows of its ``results.csv`` and nothing else; or, where it states
``RESULTS``, from the cells of that table that its ``jobs`` name. One with a table of trained encoders of its own
states ``CELL``, the columns of what is averaged over seeds.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from experiments.methods.cell import TIERS
from experiments.methods.filling import CELL, RESULTS, results, small
from experiments.methods.tables import markdown
from experiments.records import newest, older
from experiments.trained import Cells
from experiments.unrun import UNRUN
from experiments.verdict import Verdict

Rows = list[dict[str, str]]

HERE = Path(__file__).parent
PAGES = {
    "claims": HERE.parent / "README.md",
    "methods": HERE.parent / "docs" / "methods.md",
}
"""Where a part of a page is written here, between two marks that name it."""
HEADER = """# Experiments

Claims of the papers, reproduced or refuted. Every row is computed by `python -m experiments.ledger` from the
`results.csv` of its folder, or of `methods` where encoders are trained, which hold commit, machine and versions; a
doubt is settled by the row's command. With `--tier resnet18` or `--tier vit-s` a command of trained encoders runs on a
GPU: all images, that network, ten times the epochs; such rows stand below those of two cores as soon as there are any.

"""
OTHERS = """
## Beside the claims

`power` (which statistic sees which departure from uniformity), `spectra` (what kernels differ in),
`methods` (every method on the same data, encoder, views and epochs), `weights` (which weight of the regulariser),
`beginnings` (what BYOL and VJE lose in their first steps), `real_images` (does the command learn on photographs),
`picture` (the spheres in README), `checkpoints` (do figures without labels rank the points of a training). Each has its
command in its first lines.
"""


@dataclass(frozen=True)
class Entry:
    """A claim, what became of it, and how to see for oneself."""

    claim: str
    seeds: str
    found: Verdict
    command: str
    machines: str
    pictures: list[str]
    older: str

    @property
    def word(self) -> str:
        """The verdict in a word, and from how many seeds."""
        return f"{self.found.word} ({self.seeds})" if self.seeds else self.found.word


def claims() -> list[tuple[Path, ModuleType]]:
    """The folder of every claim and what it states, in the order of the folders' names."""
    folders = sorted(path.parent for path in (HERE / "claims").glob("*/__main__.py"))
    return [(folder, import_module(f"experiments.claims.{folder.name}.__main__")) for folder in folders]


def entries() -> list[Entry]:
    """Every claim of which there are results."""
    made = []
    for folder, module in claims():
        whole = _results(module, folder / "results.csv")
        if not (wanted := _wanted(module, whole)) or not _figures(module.verdict(whole)):
            continue
        pictures = sorted(str(path.relative_to(HERE)) for path in folder.glob("*.svg"))
        of_tiers = {tier: [p for p in pictures if p.endswith(f"-{tier}.svg")] for tier in TIERS}
        ours = [p for p in pictures if not any(p in drawn for drawn in of_tiers.values())]
        made.append(_entry(module, whole, wanted, module.COMMAND, ours))
        for tier, drawn in of_tiers.items() if hasattr(module, "RESULTS") else ():
            whole = _results(module, RESULTS, tier)
            if wanted := _wanted(module, whole):
                made.append(_entry(module, whole, wanted, f"{module.COMMAND} --tier {tier}", drawn))
    return made


def unrun(found: list[Entry]) -> dict[str, str]:
    """Claims without results, and rows of the papers that were never run, with the commands that would."""
    stated = {e.claim for e in found}
    return {m.CLAIM: m.COMMAND for _, m in claims() if m.CLAIM not in stated} | UNRUN


def ledger(found: list[Entry]) -> str:
    """All of it, for ``experiments/README.md``: the table, then each claim with its figures and its picture."""
    lines = ["| claim | verdict |", "|---|---|"]
    lines += [f"| {e.claim} | **{e.word}** |" for e in found]
    lines += [f"| {claim} | not run: `{command}` |" for claim, command in unrun(found).items()]
    parts = [HEADER + "\n".join(lines)]
    for e in found:
        parts.append(f"## {e.claim}\n\n**{e.word[:1].upper()}{e.word[1:]}.** {e.found.markdown()}")
        parts += [f"`{e.command}` (measured on {e.machines})", *filter(None, [e.older])]
        parts += [f"![{Path(picture).stem.replace('_', ' ')}]({picture})" for picture in e.pictures]
    return "\n\n".join(parts) + "\n" + OTHERS


def summary(found: list[Entry]) -> str:
    """Claim and verdict, for README."""
    lines = ["| claim | at our size | see for yourself |", "|---|---|---|"]
    lines += [f"| {e.claim} | {e.word} | `{e.command}` |" for e in found]
    lines.append(
        f"\n{len(unrun(found))} more were not run (ImageNet, Galaxy10, CIFAR-100, STL-10, textures at full size, and "
        "what takes two cores too long): [experiments](experiments/README.md) lists them, with commands."
    )
    old = sum(bool(e.older) for e in found)
    if old:
        lines.append(
            f"\n{old} of these {len(found)} are as of an older protocol of evaluation: "
            "[experiments](experiments/README.md) says which."
        )
    return "\n".join(lines)


def methods() -> str:
    """The tables of methods, for ``docs/methods.md``."""
    return markdown(results())


def replaced(text: str, name: str, part: str) -> str:
    """The page with what stands between the marks of this name replaced."""
    start, end = f"<!-- {name}, by python -m experiments.ledger -->", f"<!-- end of {name} -->"
    before, rest = text.split(start)
    return f"{before}{start}\n\n{part}\n\n{end}{rest.split(end)[1]}"


def _figures(found: Verdict) -> bool:
    return any(table.rows for table in found.tables)


def _entry(module: ModuleType, whole: Rows, wanted: Rows, command: str, pictures: list[str]) -> Entry:
    """The verdict is asked of the whole table: what trainings differ by is learned from all of it."""
    machines = ", ".join(dict.fromkeys(r["machine"] for r in wanted))
    old = older(wanted, command) if _cell(module) else ""
    return Entry(module.CLAIM, _seeds(wanted), module.verdict(whole), command, machines, pictures, old)


def _seeds(rows: Rows) -> str:
    """How many seeds a cell has, where rows have seeds: a verdict from one is a first look."""
    cells = Counter(tuple(r.get(k, "") for k in ("data", "method", "options", "epochs", "arm")) for r in rows)
    if "seed" not in rows[0]:
        return ""
    if (
        "options" not in rows[0]
    ):  # a table of the claim's own: every cell has the same seeds, or some have more
        least = most = len({r["seed"] for r in rows})
    else:
        least, most = min(cells.values()), max(cells.values())
    return f"{least} seed{'s' * (least != 1)}" if least == most else f"{least} to {most} seeds"


def _results(module: ModuleType, own: Path, tier: str = "") -> Rows:
    """The rows of the module's table, those of a tier under the names of the small one."""
    path = getattr(module, "RESULTS", own)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    if cell := _cell(module):
        found = newest(found, cell)
    return small(found, tier) if tier else found


def _cell(module: ModuleType) -> tuple[str, ...]:
    """Columns of the cells whose seeds a claim about trained encoders averages; empty for other claims."""
    return getattr(module, "CELL", CELL if hasattr(module, "RESULTS") else ())


def _wanted(module: ModuleType, whole: Rows) -> Rows:
    """The rows of the cells that the claim names; of a table of its own all."""
    if not hasattr(module, "RESULTS"):
        return whole
    wanted = [{k: str(v) for k, v in job.items()} for job in module.jobs(Cells(whole))]
    return [r for r in whole if any(all(r[k] == v for k, v in job.items()) for job in wanted)]


def main() -> None:
    found = entries()
    (HERE / "README.md").write_text(ledger(found))
    for name, part in (("claims", summary(found)), ("methods", methods())):
        PAGES[name].write_text(replaced(PAGES[name].read_text(), name, part))
    print("\n".join(f"{e.word}: {e.claim}. {e.found.sentence}.\n" for e in found))


if __name__ == "__main__":
    main()
