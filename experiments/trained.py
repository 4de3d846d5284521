"""Claims about trained encoders: which cells of the table of methods they need, and how those are compared."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments.methods.cell import DATA
from experiments.methods.filling import EPOCHS, RESULTS, arguments, fill, full, results, small, sources

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
        length = {"untrained": 0, "pixels": 0, "pca-whitened": 0, "descriptor": 0}.get(method, EPOCHS[data])
        wanted = (data, method, options, str(length if epochs is None else epochs))
        found = [r for r in self.rows if (r["data"], r["method"], r["options"], r["epochs"]) == wanted]
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

    def seeds(self, *cells: tuple[str, str]) -> str:
        """``1 seed``, ``3 seeds``: the fewest of these cells of data and method that are there."""
        counts = [len(self.of(*cell)) for cell in cells]
        fewest = min((count for count in counts if count), default=0)
        return f"{fewest} seed" + "s" * (fewest != 1)

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
    rows = small(results(a.out)) if a.full else list(results(a.out))
    wanted = map(full, jobs(Cells(rows))) if a.full else jobs(Cells(rows))
    if not a.draw:
        fill(wanted, sources(a.data), budget=a.budget, threads=a.threads, out=a.out)
    rows = small(results(a.out)) if a.full else list(results(a.out))
    draw(rows, picture.with_stem(f"{picture.stem}-full") if a.full else picture)
