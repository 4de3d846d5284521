"""The papers' claims at a glance, from committed results: a page a claim in ``docs/claims``, the five of README, and
the tables of ``docs/compared.md``.

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
CLAIMS = HERE.parent / "docs" / "claims"
PAGES = {
    "claims": HERE.parent / "README.md",
    "methods": HERE.parent / "docs" / "compared.md",
}
"""Where a part of a page is written here, between two marks that name it."""
README = ("uniform_is_optimal", "projection_noise", "published_weights", "one_rule", "sphere_against_lejepa")
"""The claims of README, by their folders."""
HEADER = """# Claims, and what became of them

Claims of the papers and of this library. Each page has the verdict, the figures that it is computed from, and the
command that measures them again. `python -m experiments.ledger` writes these pages from tables of results, which hold
commit, machine and versions. Encoders were trained on two CPU cores unless a page says otherwise; with
`--tier resnet18` or `--tier vit-s` a command trains that network on all images, for ten times as many epochs, on a GPU;
that has not been run.

"""


@dataclass(frozen=True)
class Entry:
    """A claim, what became of it, and how to see for oneself."""

    folder: str
    claim: str
    tier: str
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
        made.append(_entry(folder, module, whole, wanted, pictures=ours))
        for tier, drawn in of_tiers.items() if hasattr(module, "RESULTS") else ():
            whole = _results(module, RESULTS, tier)
            if wanted := _wanted(module, whole):
                made.append(_entry(folder, module, whole, wanted, tier, drawn))
    return made


def unrun(found: list[Entry]) -> dict[str, str]:
    """Claims without results, and rows of the papers that were never run, with the commands that would."""
    stated = {e.claim for e in found}
    return {m.CLAIM: m.COMMAND for _, m in claims() if m.CLAIM not in stated} | UNRUN


def index(found: list[Entry]) -> str:
    """The table of all claims, for ``docs/claims/index.md``."""
    lines = ["| claim | verdict |", "|---|---|"]
    lines += [f"| [{e.claim}]({e.folder}.md) | **{e.word}** |" for e in found]
    parts = ["\n".join(lines), "## Not run", _commands(unrun(found))]
    if old := sum(bool(e.older) for e in found):
        parts.insert(
            1,
            f"{old} of these {len(found)} are of an older protocol of evaluation, as their pages say.",
        )
    contents = "\n".join(dict.fromkeys(f"{e.folder.replace('_', ' ')} <{e.folder}>" for e in found))
    return HEADER + "\n\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{contents}\n```"]) + "\n"


def page(found: list[Entry]) -> str:
    """The page of a claim: verdict, figures and picture; of two cores first, then of the larger tiers."""
    parts = [f"# {found[0].claim}"]
    for e in found:
        parts += [f"## {e.tier}"] if e.tier else []
        sentence, _, figures = e.found.markdown().partition("\n\n")
        parts.append(f"**{e.word[:1].upper()}{e.word[1:]}.** {sentence}")
        parts += [f"![{Path(p).stem.replace('_', ' ')}](../../experiments/{p})" for p in e.pictures]
        parts.append(figures)
        parts += [f"```\n{e.command}\n```", f"Measured on {e.machines}.", *filter(None, [e.older])]
    return "\n\n".join([*parts, "[All claims](index.md)"]) + "\n"


def pages(found: list[Entry]) -> dict[str, str]:
    """What ``docs/claims`` holds: the index, and a page a folder of ``experiments/claims``, by file name."""
    folders = dict.fromkeys(e.folder for e in found)
    own = {f"{folder}.md": page([e for e in found if e.folder == folder]) for folder in folders}
    return {"index.md": index(found)} | own


def summary(found: list[Entry]) -> str:
    """The claims of README."""
    lines = ["| claim | at our size |", "|---|---|"]
    for folder in README:
        lines += [f"| [{e.claim}](docs/claims/{folder}.md) | {e.word} |" for e in found if e.folder == folder]
    return "\n".join(lines)


def methods() -> str:
    """The tables of methods, for ``docs/compared.md``."""
    return markdown(results())


def replaced(text: str, name: str, part: str) -> str:
    """The page with what stands between the marks of this name replaced."""
    start, end = f"<!-- {name}, by python -m experiments.ledger -->", f"<!-- end of {name} -->"
    before, rest = text.split(start)
    return f"{before}{start}\n\n{part}\n\n{end}{rest.split(end)[1]}"


def _commands(missing: dict[str, str]) -> str:
    lines = ["| claim | command |", "|---|---|"]
    return "\n".join(lines + [f"| {claim} | `{command}` |" for claim, command in missing.items()])


def _figures(found: Verdict) -> bool:
    return any(table.rows for table in found.tables)


def _entry(
    folder: Path,
    module: ModuleType,
    whole: Rows,
    wanted: Rows,
    tier: str = "",
    pictures: list[str] | None = None,
) -> Entry:
    """The verdict is asked of the whole table: what trainings differ by is learned from all of it."""
    command = f"{module.COMMAND} --tier {tier}" if tier else module.COMMAND
    machines = ", ".join(dict.fromkeys(r["machine"] for r in wanted))
    old = older(wanted, command) if _cell(module) else ""
    found = module.verdict(whole)
    return Entry(
        folder.name, module.CLAIM, tier, _seeds(wanted), found, command, machines, pictures or [], old
    )


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
    CLAIMS.mkdir(exist_ok=True)
    for name, text in pages(found).items():
        (CLAIMS / name).write_text(text)
    for name, part in (("claims", summary(found)), ("methods", methods())):
        PAGES[name].write_text(replaced(PAGES[name].read_text(), name, part))
    print("\n".join(f"{e.word}: {e.claim}. {e.found.sentence}.\n" for e in found))


if __name__ == "__main__":
    main()
