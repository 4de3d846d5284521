"""One look for every figure of the experiments and of the documentation."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from isosphere.report import COLOURS, INK, style

__all__ = ["COLOURS", "grouped_bars", "panels", "save"]

mpl.rcParams |= style(svg_fonttype="path", svg_hashsalt="isosphere")


def panels(rows: int, columns: int, *, width: float = 3.2, height: float = 2.5, **options: Any) -> Any:
    """A figure and its axes, as :func:`matplotlib.pyplot.subplots` gives them, without a display."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def grouped_bars(
    axis: Any, ticks: Sequence[str], series: Mapping[str, tuple[str, Sequence[Collection[float]]]]
) -> None:
    """At each tick a bar of each series, as high as the mean of its values there, with a dash for each value.

    ``series``: by name, a colour and the values at every tick; a bar without values is left out.
    """
    step = 0.8 / len(series)
    for i, (name, (colour, values)) in enumerate(series.items()):
        for k, found in enumerate(values):
            if not found:
                continue
            x = k + (i - (len(series) - 1) / 2) * step
            axis.bar(x, sum(found) / len(found), width=0.92 * step, color=colour, label=name)
            axis.plot([x] * len(found), list(found), "_", color=INK, markersize=6)
            name = None  # named once in the legend
    axis.set_xticks(range(len(ticks)), ticks)
    axis.grid(visible=False, axis="x")


def save(figure: Figure, path: Path) -> None:
    """Write an SVG without a date, so that the same results give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    print(f"drew {path}")
