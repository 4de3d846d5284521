"""Pictures of a run: queries with their nearest neighbours, and the curves of its training."""

import io
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.atomic import make_folder, write_bytes
from isosphere.errors import UsageError, printable
from isosphere.report._style import COLOURS, FAINT, GRID, running_median, style
from isosphere.runs import read_metrics

GREEN, VERMILION = COLOURS[2], COLOURS[1]
_DPI = 160


def neighbour_gallery(
    queries: Tensor,
    found: Tensor,
    path: str | Path,
    *,
    similarities: ArrayLike | Tensor | None = None,
    right: ArrayLike | Tensor | None = None,
    missed: Mapping[int, tuple[Tensor, int]] | None = None,
    title: str | None = None,
) -> Path:
    """Draw a row per query: the query, then its nearest neighbours, best first, the right ones framed.

    Args:
        queries: ``(rows, c, h, w)`` images, uint8 or float in [0, 1].
        found: ``(rows, k, c, h, w)`` the neighbours of each.
        path: of the PNG; its folder is made.
        similarities: ``(rows, k)`` cosines, written below the neighbours.
        right: ``(rows, k)`` truth values.
        missed: by row, the image that should have been found and its rank, 1 the best; drawn at the end of the row.
        title: above it all.

    Returns: the path.

    Raises: UsageError if matplotlib is not installed; RunError if the file cannot be written; ValueError if shapes
        disagree.
    """
    matplotlib = matplotlib_or_words()
    if queries.ndim != 4 or found.ndim != 5 or len(queries) != len(found) or found.numel() == 0:
        raise ValueError(
            f"queries, found: got shapes {tuple(queries.shape)} and {tuple(found.shape)}, expected (rows, c, h, w) "
            "and (rows, k, c, h, w)"
        )
    rows, k = found.shape[:2]
    hits = np.zeros((rows, k), bool) if right is None else _like(right, found, "right").astype(bool)
    captions = np.full((rows, k), "", dtype=object)
    if similarities is not None:
        cosines = _like(similarities, found, "similarities")
        captions = np.vectorize(lambda c: f"{c:.2f}", otypes=[object])(cosines)
    lacking = missed or {}
    cell, gap, below, head = 1.05, 0.3, 0.29, 0.64 if title else 0.34
    extra = int(bool(lacking))
    width, height = 0.3 + cell * (1 + k + extra) + gap * (1 + extra), head + (cell + below) * rows + 0.08
    with matplotlib.rc_context(style()):
        figure = matplotlib.figure.Figure(figsize=(width, height))

        def place(row: int, column: int) -> Any:
            x = 0.15 + cell * column + gap * ((column > 0) + (column > k))
            y = height - head - (cell + below) * row - cell
            side = 0.93 * cell
            return figure.add_axes((x / width, y / height, side / width, side / height))

        if title:
            _title(figure, 0.15 / width, 1 - 0.12 / height, title)
        heads = ["query", "nearest", *[str(j) for j in range(2, k + 1)], *["sought"] * extra]
        for column, words in enumerate(heads):
            x = 0.15 + cell * column + gap * ((column > 0) + (column > k)) + 0.465 * cell
            figure.text(x / width, 1 - (head - 0.05) / height, words, color=FAINT, ha="center", va="bottom")
        for r in range(rows):
            _show(place(r, 0), queries[r])
            for j in range(k):
                axes = place(r, 1 + j)
                _show(axes, found[r, j])
                if hits[r, j]:
                    _frame(axes, GREEN, "solid")
                words = f"\u2713 {captions[r, j]}".strip() if hits[r, j] else captions[r, j]
                _caption(axes, words, hits[r, j])
            if r in lacking:
                image, rank = lacking[r]
                axes = place(r, 1 + k)
                _show(axes, image)
                _frame(axes, VERMILION, (0, (1.5, 0.8)))
                _caption(axes, f"rank {rank}", False)
        return _save(figure, path)


def loss_curves(metrics_csv: str | Path, path: str | Path, *, title: str | None = None) -> Path:
    """Draw small multiples of the total loss, its parts, the learning rate and what else was measured.

    Args:
        metrics_csv: a run's ``metrics.csv``: columns step, epoch, total, the parts, learning_rate, and any
            others. Cells may be blank or words; a column without two numbers is left out.
        path: of the PNG; its folder is made.
        title: above it all.

    A column with many points is drawn faint, with its running median over a fiftieth of the points in front,
    and the last value written at its end.

    Returns: the path.

    Raises: UsageError if matplotlib is not installed, or the file is absent or has no numbers to draw; RunError if the
        picture cannot be written.
    """
    matplotlib = matplotlib_or_words()
    source = Path(metrics_csv)
    if not source.is_file():
        raise UsageError(f"There is no file {source}: expected the metrics.csv of a run's folder.")
    steps, columns = numbers_of(read_metrics(source))
    if not columns:
        raise UsageError(f"{source} has no column with two numbers to draw: expected step, total and others.")
    across = min(3, len(columns))
    down = math.ceil(len(columns) / across)
    size = (3.4 * across + 0.2, 2.05 * down + (0.4 if title else 0.1))
    with matplotlib.rc_context(style()):
        figure = matplotlib.figure.Figure(figsize=size)
        panels = figure.subplots(down, across, squeeze=False, sharex=True).flat
        for position, (axes, (name, values)) in enumerate(zip(panels, columns.items(), strict=False)):
            _curve(axes, steps, values, COLOURS[position % 6])
            axes.set_title(in_words(name), pad=7, parse_math=False)
            if position + across >= len(columns):
                axes.set_xlabel("step")
                axes.tick_params(labelbottom=True)
        for axes in list(figure.axes)[len(columns) :]:
            axes.axis("off")
        if title:
            _title(figure, 0.12 / size[0], 1 - 0.12 / size[1], title)
        figure.tight_layout(rect=(0, 0, 1, 1 - (0.3 / size[1] if title else 0)), h_pad=1.2, w_pad=1.6)
        return _save(figure, path)


def matplotlib_or_words() -> ModuleType:
    """The package, or a UsageError that names the extra."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise UsageError(
            "Pictures need matplotlib, which is not installed. Type: pip install matplotlib"
        ) from error
    # Figures are made without pyplot: no window, no display, no global state.
    return matplotlib


def _title(figure: Any, x: float, y: float, words: str) -> None:
    # A dollar in a name is a dollar.
    figure.text(x, y, printable(words), fontsize=11, fontweight="bold", va="top", parse_math=False)


def _save(figure: Any, path: str | Path) -> Path:
    target, drawn = Path(path), io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # of characters that the font has not
        figure.savefig(drawn, dpi=_DPI, format="png")
    make_folder(target.parent)
    write_bytes(target, drawn.getvalue())
    return target


def _show(axes: Any, image: Tensor) -> None:
    x = image.detach().cpu()
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    picture = x.clamp(0, 1).permute(1, 2, 0).numpy()
    # Enlarged pixels stay square: interpolation would draw what the encoder never saw.
    picture = picture if picture.shape[2] == 3 else picture[..., 0]
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID, linewidth=0.8)


def _frame(axes: Any, colour: str, line: Any) -> None:
    box = axes.patch
    box.set(visible=True, facecolor="none", edgecolor=colour, linewidth=5, linestyle=line, zorder=3)
    axes.spines[:].set_visible(False)


def _caption(axes: Any, words: str, strong: bool) -> None:
    colour, weight = (GREEN, "bold") if strong else (FAINT, "normal")
    axes.set_xlabel(words, labelpad=5.5, fontsize=8.5, color=colour, fontweight=weight)


def _curve(axes: Any, steps: np.ndarray, values: np.ndarray, colour: str) -> None:
    seen = np.isfinite(values)
    x, y = steps[seen], values[seen]
    smooth = running_median(y)
    if smooth is not None:
        axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
        y = smooth
    axes.plot(x, y, color=colour, linewidth=1.8, marker="o" if len(y) <= 12 else None, markersize=3.5)
    axes.margins(x=0.02, y=0.08)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    axes.set_title(f"{y[-1]:.3g}", loc="right", color=colour, pad=7)


def numbers_of(rows: list[dict[str, str]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps, and in the file's order every other column but the epoch that holds two finite numbers."""
    table = {name: np.array([_number(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
    steps = table.pop("step", np.arange(len(rows), dtype=float))
    table.pop("epoch", None)
    kept = np.isfinite(steps)
    drawn = {name: values[kept] for name, values in table.items()}
    return steps[kept], {name: v for name, v in drawn.items() if np.isfinite(v).sum() >= 2}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


_CURVES = {
    "total": "loss",
    "invariance": "invariance: distance of two views",
    "regulariser": "regulariser: distance from uniform",
    "cosine": "mean cosine of images (1: collapsed)",
    "alignment": "closeness of two views (1: the same)",
    "dimensions": "dimensions in use",
    "zscore": "z-score from uniform (within 2: uniform)",
    "rankme": "RankMe: effective rank, embedding",
    "rankme_features": "RankMe: effective rank, backbone",
    "lidar": "LiDAR: directions that tell images apart",
    "top_variance": "share of variance, first direction",
    "top_tenth": "share of variance, a tenth of directions",
    "expansion_ratio": "expansion ratio r* (above 1: no collapse)",
    "two_view_recall": "two-view Recall@1",
    "neighbours_kept": "neighbours kept since the start",
    "knn": "k-NN accuracy",
}


def in_words(name: str) -> str:
    """The name of a column as it is written above its curve."""
    return _CURVES.get(name) or name.replace("_", " ").replace("/", " \u00b7 ")


def _like(values: ArrayLike | Tensor, found: Tensor, name: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != found.shape[:2]:
        raise ValueError(f"{name}: got shape {array.shape}, expected {tuple(found.shape[:2])}, as found")
    return array
