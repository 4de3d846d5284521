"""The tables of README.md, from `adapted.csv` and `grid.csv`.

python -m experiments.pretrained.tables
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

from experiments.command import parser

HERE = Path(__file__).parent
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """Those of a file beside this one."""
    with (HERE / name).open(newline="") as file:
        return list(csv.DictReader(file))


def line(cells: Iterable[str]) -> str:
    """One of a table."""
    return f"| {' | '.join(cells)} |"


def names(found: Iterable[Row]) -> list[str]:
    """Of the sets, in the order of the file."""
    return list(dict.fromkeys(row["set"] for row in found))


def gains(found: list[Row], passes: str, base: str = "") -> list[str]:
    """A line a rule: k-NN and mAP of the frozen features, gains with their standard errors of the others."""
    here = [row for row in found if row["passes"] == passes]
    sets = names(here)
    out = [line(["", *sets, "mean"]), line(["---"] * (len(sets) + 2))]
    for rule in dict.fromkeys(row["rule"] for row in here):
        of = {row["set"]: row for row in here if row["rule"] == rule}
        if set(of) != set(sets):
            continue
        if rule == "frozen" and not base:
            out.append(line([rule, *(f"{of[s]['knn']} / {of[s]['map']}" for s in sets), ""]))
            continue

        def gain(row: Row, figure: str) -> str:
            return f"{float(row[f'{figure}_gain{base}']):+.1f} ± {float(row[f'{figure}_error{base}']):.1f}"

        means = [sum(float(of[s][f"{f}_gain{base}"]) for s in sets) / len(sets) for f in ("knn", "map")]
        cells = [f"{gain(of[s], 'knn')} / {gain(of[s], 'map')}" for s in sets]
        out.append(line([rule, *cells, f"{means[0]:+.2f} / {means[1]:+.2f}"]))
    return out


def harmless(found: list[Row], rule: str = "default") -> list[str]:
    """Lower ends of the paired 95 % intervals."""
    out = []
    for row in found:
        if row["rule"] == rule:
            ends = [float(row[f"{f}_gain"]) - 1.96 * float(row[f"{f}_error"]) for f in ("knn", "map")]
            out.append(f"{row['set']}, {row['passes']} pass(es): {ends[0]:+.1f} / {ends[1]:+.1f}")
    return out


Setting = tuple[str, str]


def chosen(of: list[dict[Setting, Row]]) -> Setting:
    """With labels: the largest mean gain of mAP where k-NN gains half a point on average and falls on no set."""

    def mean(figure: str, setting: Setting) -> float:
        return sum(float(grid[setting][figure]) for grid in of) / len(of)

    def sound(setting: Setting) -> bool:
        worst = min(float(grid[setting]["knn_gain"]) for grid in of)
        return mean("knn_gain", setting) >= 0.5 and worst >= 0

    settings = [setting for setting in of[0] if setting[0]]
    fit = [setting for setting in settings if sound(setting)]
    return max(fit or settings, key=lambda setting: mean("map_gain" if fit else "knn_gain", setting))


def regrets(found: list[Row]) -> list[str]:
    """How the setting was chosen: what it was, and gains of k-NN and mAP by it, on each set."""
    sets = names(found)
    grids = {s: {(r["shrinkage"], r["strength"]): r for r in found if r["set"] == s} for s in sets}

    def best(criterion: str) -> Callable[[str], Setting]:
        def choose(name: str) -> Setting:
            grid = {setting: row for setting, row in grids[name].items() if setting[0]}
            if criterion == "likelihood":  # it knows the shrinkage alone
                grid = {setting: row for setting, row in grid.items() if setting[1] == "0.15"}
            return max(grid, key=lambda setting: float(grid[setting][criterion]))

        return choose

    ways: dict[str, Callable[[str], Setting]] = {
        "this set's labels": lambda name: chosen([grids[name]]),
        "labels of the three others": lambda name: chosen([grids[s] for s in sets if s != name]),
        "the default (.85, .15)": lambda name: ("0.85", "0.15"),
        "neighbours that two views have in common": best("common"),
        "share of variance between images": best("share"),
        "held-out likelihood of views (strength .15)": best("likelihood"),
        "Recall@1 of the other view": best("recall"),
    }
    out = [line(["chosen by", *sets, "mean"]), line(["---"] * (len(sets) + 2))]
    for way, choose in ways.items():
        cells, total = [], [0.0, 0.0]
        for name in sets:
            setting = choose(name)
            got = [float(grids[name][setting][f]) for f in ("knn_gain", "map_gain")]
            total = [a + b / len(sets) for a, b in zip(total, got, strict=True)]
            cells.append(f"{setting[0]}, {setting[1]}: {got[0]:+.1f} / {got[1]:+.1f}")
        out.append(line([way, *cells, f"{total[0]:+.2f} / {total[1]:+.2f}"]))
    return out


def main() -> None:
    parser(__doc__).parse_args()
    adapted = rows("adapted.csv")
    for network in dict.fromkeys(row["network"] for row in adapted):
        own = [row for row in adapted if row["network"] == network]
        for title, passes, base in (
            ("one pass", "1", ""),
            ("two passes against two", "2", ""),
            ("two against one", "2", "_one"),
        ):
            print(f"\n{network}, {title}\n", *gains(own, passes, base), sep="\n")
        print("\nLower ends (k-NN / mAP):", *harmless(own), sep="\n")
    print("\nChoice\n", *regrets(rows("grid.csv")), sep="\n")


if __name__ == "__main__":
    main()
