"""Claims about trained encoders: which cells of the table of methods they need, and how those are compared."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.drawing import grouped_bars, panels, save
from experiments.methods.cell import BASELINES, DATA, FIXED, TIERS
from experiments.methods.filling import CELL, RESULTS, arguments, fill, job, large, results, small, sources
from experiments.records import newest
from experiments.verdict import Figures, pooled_deviation

__all__ = ["RESULTS", "Cells", "Course", "bars", "main", "on_equal_terms"]

Rows = Iterable[dict[str, str]]

MATCHED = "method.options.expansion=10"
WEIGHTS = {
    "r* = 10": MATCHED,
    "cut-off .35": "method.options.cutoff=0.35",
    "balanced": "",
    "cut-off .7": "method.options.cutoff=0.7",
}
"""What is tried of the weight; balanced is the cut-off .5 (the share of variance between images), with slices less."""
HALF = {"cut-off .5": "method.options.cutoff=0.5"}
"""What balanced is of an exact statistic: tried of sliced ones, for which it makes no allowance for their noise."""
FURTHER = {
    "r* = 2": "method.options.expansion=2",
    "r* = 5": "method.options.expansion=5",
    "cut-off .25": "method.options.cutoff=0.25",
}
"""Tried too where r* = 10 was the best of these."""
EVERY = WEIGHTS | HALF | FURTHER
OWN = "own best weight"
ENDS = (MATCHED, *FURTHER.values())
RATES = ("knn", "linear", "map", "mrr", "recall", "transfer_")
"""How the metrics begin that are rates in percent."""
LIKE = {"knn_white": "knn", "knn_views": "knn"}
"""Metrics of which too few cells have several trainings, and those from which they learn what trainings differ by."""


@dataclass(frozen=True)
class Course:
    """A data set, what is asked there, and for how long the methods train; None: the table's own length."""

    data: str
    metric: str
    epochs: int | None = None


class Cells:
    """The rows of the table, asked by data, method, options and length; each cell's by one protocol, the latest."""

    def __init__(self, rows: Rows, every: Rows | None = None):
        """``every``: rows from which to learn what trainings differ by, where ``rows`` are a part of them."""
        self.rows = newest(rows, CELL)
        self.every = self.rows if every is None else newest(every, CELL)
        self._dispersions: dict[tuple[str, str], float] = {}

    def of(
        self, data: str, method: str, options: str = "", epochs: int | None = None
    ) -> list[dict[str, str]]:
        """One row a seed, in the order of the seeds."""
        wanted = {k: str(v) for k, v in job(data, method, 0, options, epochs).items() if k != "seed"}
        found = [r for r in self.rows if all(r[k] == v for k, v in wanted.items())]
        return sorted(found, key=lambda r: int(r["seed"]))

    def values(
        self, data: str, method: str, metric: str, options: str = "", epochs: int | None = None
    ) -> dict[int, float]:
        """The metric by seed; rows that lack it are left out."""
        return {
            int(r["seed"]): float(r[metric]) for r in self.of(data, method, options, epochs) if r.get(metric)
        }

    def mean(
        self, data: str, method: str, metric: str, options: str = "", epochs: int | None = None
    ) -> float:
        """Mean over seeds; nan without any."""
        found = self.values(data, method, metric, options, epochs)
        return fmean(found.values()) if found else float("nan")

    def error(
        self, data: str, method: str, metric: str, options: str = "", epochs: int | None = None
    ) -> float:
        """Standard error of a mean rate p in percent, of the m test images and the k trainings with their dispersion:
        the root of p (1 - p) (1/m + dispersion^2/k).
        """
        found = list(self.values(data, method, metric, options, epochs).values())
        if not found:
            return float("nan")
        rate, tier = fmean(found) / 100, self.rows[0].get("tier")
        judged = data
        if metric.startswith("transfer_"):
            judged = self.of(data, method, options, epochs)[0]["transfer"].partition("-")[0]
        images = DATA[f"{judged}-{tier}" if tier else judged].test_images
        dispersion = 0.0 if method in FIXED else self.dispersion(data, metric)
        return 100 * (_variance(rate) * (1 / images + dispersion**2 / len(found))) ** 0.5

    def dispersion(self, data: str, metric: str) -> float:
        """Standard deviation between trainings of one cell from different seeds, over that of a single coin of the
        same rate, sqrt(p (1 - p)): pooled over the cells of the data that have several, or where none has, over those
        of all data; 0 before there are any.
        """
        metric = LIKE.get(metric, metric)
        if (data, metric) not in self._dispersions:
            cells: dict[tuple[str, ...], list[float]] = {}
            for r in self.every:
                if r.get(metric) and r["method"] not in BASELINES:
                    cells.setdefault(tuple(r[k] for k in CELL), []).append(float(r[metric]) / 100)
            scaled = {
                key: [x / _variance(fmean(rates)) ** 0.5 for x in rates] for key, rates in cells.items()
            }
            own = [values for key, values in scaled.items() if key[CELL.index("data")] == data]
            self._dispersions[data, metric] = pooled_deviation(own) or pooled_deviation(scaled.values())
        return self._dispersions[data, metric]

    def gain(
        self,
        data: str,
        method: str,
        base: str,
        metric: str,
        options: str = "",
        base_options: str = "",
        epochs: int | None = None,
    ) -> tuple[float, float]:
        """Difference of the means of two methods and its standard error, those of both added in squares."""
        cells = (data, method, metric, options, epochs), (data, base, metric, base_options, epochs)
        (mean, error), (base_mean, base_error) = ((self.mean(*c), self.error(*c)) for c in cells)
        return mean - base_mean, (error**2 + base_error**2) ** 0.5

    def own_best(self, data: str, method: str) -> str | None:
        """The options of the weight that is best on training images that seed 0 did not see; None before all of
        them were tried.
        """
        tried = ((o, self.values(data, method, "validation", o)) for o in EVERY.values())
        found = {o: values[0] for o, values in tried if 0 in values}
        return max(found, key=lambda o: found[o]) if found.keys() >= set(WEIGHTS.values()) else None

    def terms(self, data: str, methods: Sequence[str]) -> dict[str, dict[str, str]]:
        """The options with which methods meet: the balanced weight, one expansion ratio, each one's own best weight; of
        those that have been through it.
        """
        best = {m: self.own_best(data, m) for m in methods}
        met = {
            "balanced": dict.fromkeys(methods, ""),
            "r* = 10": dict.fromkeys(methods, MATCHED),
            OWN: {m: o for m, o in best.items() if o is not None},
        }
        return {t: {m: o for m, o in options.items() if self.of(data, m, o)} for t, options in met.items()}

    def told(
        self,
        data: str,
        method: str,
        metric: str,
        options: str = "",
        epochs: int | None = None,
        digits: int = 1,
    ) -> str:
        """The mean over seeds, a rate with its standard error; empty without any."""
        cell = (data, method, metric, options, epochs)
        if not self.values(*cell):
            return ""
        error = f" ± {self.error(*cell):.1f}" if metric.startswith(RATES) else ""
        return f"{self.mean(*cell):.{digits}f}{error}"

    def table(
        self, caption: str, rows: Mapping[str, tuple[str, str]], columns: Mapping[str, tuple[str, str, int]]
    ) -> Figures:
        """Figures of named (method, options), those that are there, by named (data, metric, digits), and how many
        seeds they have.
        """
        made = []
        for name, (method, options) in rows.items():
            cells = [
                self.told(data, method, metric, options, None, k) for data, metric, k in columns.values()
            ]
            if any(cells):
                counts = [len(self.values(d, method, metric, options)) for d, metric, _ in columns.values()]
                made.append([name, *cells, span(count for count in counts if count)])
        return Figures(caption, ["", *columns, "seeds"], made)

    def terms_table(self, data: str, methods: Sequence[str], metric: str, caption: str) -> Figures:
        """The metric of methods that meet at the balanced weight, at one expansion ratio, at each one's own best."""
        terms, made = self.terms(data, methods), []
        names = {options: name for name, options in EVERY.items()}
        for m in methods:
            cells = [
                self.told(data, m, metric, options[m]) if m in options else "" for options in terms.values()
            ]
            if cells[-1]:
                cells[-1] += f" ({names[terms[OWN][m]]})"
            if any(cells[1:]):
                made.append([m, *cells])
        return Figures(caption, ["", *terms], made)


def bars(
    cells: Cells,
    colours: Mapping[str, str],
    groups: Mapping[str, tuple[Sequence[str], str]],
    path: Path,
    *,
    width: float,
    height: float,
    legend: int,
) -> None:
    """Draw (data sets, metric) by title, textures and then class-like data, a bar for each method at each data set."""
    figure, axes = panels(1, len(groups), width=width, height=height)
    for axis, (title, (names, metric)) in zip(axes, groups.items(), strict=True):
        series = {
            m: (colour, [cells.values(n, m, metric).values() for n in names]) for m, colour in colours.items()
        }
        grouped_bars(axis, names, series)
        axis.set(title=title)
    axes[-1].set(ylim=(25, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=legend, fontsize=8)
    save(figure, path)


def on_equal_terms(cells: Cells, data: str, methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The cells that compare methods at one expansion ratio, and each at its own best weight: of more seeds by a
    second call, when the first has tried all of them.
    """
    yield from (job(data, m, 0, options) for options in WEIGHTS.values() for m in methods)
    yield from (
        job(data, m, 0, o) for m in methods for o in FURTHER.values() if cells.own_best(data, m) in ENDS
    )
    for seed in (1, 2):
        yield from (job(data, m, seed, MATCHED) for m in methods)
        best = {m: cells.own_best(data, m) for m in methods}
        yield from (job(data, m, seed, options) for m, options in best.items() if options is not None)


def _variance(rate: float) -> float:
    """Of a coin that shows heads at this rate; not quite 0 at 0 and 1."""
    return max(rate * (1 - rate), 1e-4)


def span(counts: Iterable[int]) -> str:
    """``3``, or ``1 to 3``."""
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def main(
    doc: str | None,
    jobs: Callable[[Cells], Iterable[dict[str, Any]]],
    draw: Callable[[Rows, Path], None],
    picture: Path,
) -> None:
    """The command of a claim: fill the cells that it needs and draw what is there."""
    parser = arguments(doc)
    parser.add_argument(
        "--tier", choices=TIERS, help="for a GPU: all images, this network, ten times the epochs"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()

    def rows() -> list[dict[str, str]]:
        return small(results(a.out), a.tier) if a.tier else list(results(a.out))

    if not a.draw:
        wanted = jobs(Cells(rows()))
        cells = (large(cell, a.tier) for cell in wanted) if a.tier else wanted
        fill(cells, sources(a.data), budget=a.budget, threads=a.threads, out=a.out)
    draw(rows(), picture.with_stem(f"{picture.stem}-{a.tier}") if a.tier else picture)
