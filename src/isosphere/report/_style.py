"""One look for every picture: of a run, of a page, of the experiments and of the documentation."""

from typing import Any

import numpy as np

# Okabe and Ito's palette first, told apart under the common forms of colour blindness.
COLOURS = [
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#1b1f24", "#8c564b", "#7b6fd0", "#8a8f98"),
]
INK, FAINT, GRID = "#1b1f24", "#6b7480", "#e4e7eb"


def style(ink: str = INK, faint: str = FAINT, grid: str = GRID, **others: Any) -> dict[str, Any]:
    """Settings of matplotlib in these colours of words, axes and grid; `svg_fonttype` stands for ``svg.fonttype``."""
    return {
        "font.size": 9,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "text.color": ink,
        "axes.edgecolor": faint,
        "axes.labelcolor": faint,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.8,
        "xtick.color": faint,
        "ytick.color": faint,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        **{name.replace("_", "."): value for name, value in others.items()},
    }


def running_median(values: np.ndarray) -> np.ndarray | None:
    """Over a fiftieth of the points; None of so few that there is nothing to smooth.

    Shape: (n,) to (n,).
    """
    window = max(1, len(values) // 50) | 1
    if window < 3:
        return None
    padded = np.pad(values, window // 2, mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
