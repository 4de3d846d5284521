"""Claims about trained encoders: which cells of the table of methods they need, and how those are compared."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments.methods.cell import DATA
from experiments.methods.filling import RESULTS, arguments, fill, full, job, results, small, sources

__all__ = ["RESULTS", "Cells", "main"]

Rows = Iterable[dict[str, str]]


class Cells:
    """The rows of the table, asked by data, method, options and length."""

    def __init__(self, rows: Rows):
        self.rows = list(rows)

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
        return {int(r["seed"]): float(r[metric]) for r in self.of(data, method, options, epochs) if r[metric]}

    def mean(
        self, data: str, method: str, metric: str, options: str = "", epochs: int | None = None
    ) -> float:
        """Mean over seeds; nan without any."""
        found = self.values(data, method, metric, options, epochs)
        return fmean(found.values()) if found else float("nan")

    def error(
        self, data: str, method: str, metric: str, options: str = "", epochs: int | None = None
    ) -> float:
        """Standard error of a mean rate in percent: of the seeds from three on, else of the test images."""
        found = list(self.values(data, method, metric, options, epochs).values())
        if len(found) > 2:
            return stdev(found) / len(found) ** 0.5
        if not found:
            return float("nan")
        rate = fmean(found) / 100
        return 100 * (max(rate * (1 - rate), 1e-4) / DATA[data].test_images) ** 0.5

    def gain(self, data: str, method: str, base: str, metric: str, options: str = "") -> tuple[float, float]:
        """Difference of the means of two methods and its standard error, those of both added in squares."""
        difference = self.mean(data, method, metric, options) - self.mean(data, base, metric)
        return difference, (
            self.error(data, method, metric, options) ** 2 + self.error(data, base, metric) ** 2
        ) ** 0.5

    def series(
        self, colours: Mapping[str, str], names: Sequence[str], metric: str
    ) -> dict[str, tuple[str, list[Collection[float]]]]:
        """The metric of each method over data, for :func:`experiments.drawing.grouped_bars`."""
        return {
            m: (colour, [self.values(n, m, metric).values() for n in names]) for m, colour in colours.items()
        }

    def shown(self, data: str, methods: Sequence[str], metric: str, digits: int = 1) -> str:
        """``name value`` of the methods that are there, the largest first."""
        found = {m: self.mean(data, m, metric) for m in methods if self.values(data, m, metric)}
        return ", ".join(f"{m} {v:.{digits}f}" for m, v in sorted(found.items(), key=lambda item: -item[1]))


def main(
    doc: str | None,
    jobs: Callable[[Cells], Iterable[dict[str, Any]]],
    draw: Callable[[Rows, Path], None],
    picture: Path,
) -> None:
    """The command of a claim: fill the cells that it needs and draw what is there."""
    parser = arguments(doc)
    parser.add_argument(
        "--full", action="store_true", help="for a GPU: all images, ResNet-18, ten times the epochs"
    )
    parser.add_argument("--draw", action="store_true", help="draw what is in the table, train nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()

    def rows() -> list[dict[str, str]]:
        return small(results(a.out)) if a.full else list(results(a.out))

    if not a.draw:
        wanted = jobs(Cells(rows()))
        cells = map(full, wanted) if a.full else wanted
        fill(cells, sources(a.data), budget=a.budget, threads=a.threads, out=a.out)
    draw(rows(), picture.with_stem(f"{picture.stem}-full") if a.full else picture)
