"""Figures of a report as SVG that takes the page's colours, so that they are right in the dark and on paper."""

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from isosphere.errors import printable
from isosphere.reductions import inner_product_blocks
from isosphere.report._collapse import paired
from isosphere.report._plots import matplotlib_or_words
from isosphere.report._style import running_median, style
from isosphere.sphere import log_marginal_density, sample_uniform
from isosphere.statistics import covariance_spectrum

# Drawn in these colours, and replaced by the page's variables in the text of the SVG.
_COLOURS = {
    "--ink": "#010203",
    "--faint": "#010204",
    "--grid": "#010205",
    "--paper": "#010206",
    **{f"--c{i}": f"#0102{16 + i:02x}" for i in range(6)},
}
_STYLE = style(_COLOURS["--ink"], _COLOURS["--faint"], _COLOURS["--grid"], font_size=9.5, svg_fonttype="none")
_MAP_POINTS = 2000
# Twelve hues that keep apart on white and on black; more classes go round again in other lightness.
_CLASSES = [
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#b8860b",
    "#56b4e9",
    "#8c564b",
    "#7b6fd0",
    "#c03d3e",
    "#6b8e23",
    "#20a4a4",
    "#8a8f98",
]


def colour(i: int) -> str:
    """Colour of the i-th run."""
    return _COLOURS[f"--c{i % 6}"]


def class_colours(count: int) -> list[str]:
    """A colour for each class; beyond twelve they repeat."""
    return [_CLASSES[i % len(_CLASSES)] for i in range(count)]


_serial = itertools.count()

Images = Callable[[Sequence[int]], Tensor]
"""From rows to their images, uint8 ``(rows, 3, h, w)``, which are read when they are shown."""


def curve_figure(curves: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> str:
    """One quantity of several runs over their steps: (steps, values) by run, None where a run has none."""
    figure, axes = _figure(3.5, 2.1)
    for i, curve in enumerate(curves):
        if curve is None:
            continue
        x, y = curve
        smooth = running_median(y)
        if smooth is not None:
            axes.plot(x, y, color=colour(i), alpha=0.22, linewidth=0.8)
            y = smooth
        axes.plot(x, y, color=colour(i), linewidth=1.8, marker="o" if len(y) <= 12 else None, markersize=3)
    axes.margins(x=0.02, y=0.08)
    axes.xaxis.set_major_locator(_locator(5))
    axes.yaxis.set_major_locator(_locator(5))
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:,.0f}" if v < 10000 else f"{v / 1000:,.0f}k")
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:.4g}")
    axes.set_xlabel("step")
    return _svg(figure)


def spectrum_figure(samples: Mapping[str, Tensor]) -> str:
    """Eigenvalues of the covariance of unit rows, times d, beside those of as many uniform points."""
    figure, axes = _figure(4.6, 3.0)
    smallest = 1.0
    for i, (name, z) in enumerate(samples.items()):
        n, d = z.shape
        values = (covariance_spectrum(functional.normalize(z.double(), dim=1)) * d)[: min(n - 1, d)]
        kept = values[values > 1e-9 * values[0].clamp(min=1e-300)]
        axes.plot(range(1, len(kept) + 1), kept, color=colour(i), linewidth=1.9, label=_label(name))
        smallest = min([smallest, *kept[-1:].tolist()])
    for i, (n, d) in enumerate(dict.fromkeys((z.shape[0], z.shape[1]) for z in samples.values())):
        null = (covariance_spectrum(_uniform(n, d)) * d)[: min(n - 1, d)]
        label = None if i else "uniform points"
        axes.plot(range(1, len(null) + 1), null, "--", color=_COLOURS["--ink"], linewidth=1.1, label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(smallest / 1.6, 1e-6))
    axes.set(xlabel="direction, by variance", ylabel="variance × d")
    axes.minorticks_off()
    _legend(axes)
    return _svg(figure)


def cosine_figure(samples: Mapping[str, Tensor]) -> str:
    """Histogram of the cosines of all pairs, against the exact density of those of uniform points; of more than 4,000
    rows so many are drawn.
    """
    figure, axes = _figure(4.6, 3.0)
    dims = {z.shape[1] for z in samples.values()}
    edges = np.linspace(-1, 1, 401)
    counts = {name: _cosine_counts(z, edges) for name, z in samples.items()}
    centres = (edges[1:] + edges[:-1]) / 2
    reach = 4.5 / math.sqrt(min(dims))
    low, high = -reach, reach
    for values in counts.values():
        total = np.cumsum(values) / max(values.sum(), 1)
        low = min(low, centres[np.searchsorted(total, 0.0005)])
        high = max(high, centres[min(np.searchsorted(total, 0.9995), len(centres) - 1)])
    low, high = max(-1.0, low - 0.03), min(1.0, high + 0.03)
    for i, (name, values) in enumerate(counts.items()):
        density = values / max(values.sum(), 1) / (edges[1] - edges[0])
        step = max(1, round((high - low) / 90 / (edges[1] - edges[0])))
        if step > 1:
            cut = len(density) // step * step
            x, y = centres[:cut].reshape(-1, step).mean(1), density[:cut].reshape(-1, step).mean(1)
        else:
            x, y = centres, density
        seen = (x >= low) & (x <= high)
        axes.fill_between(
            x[seen], y[seen], step="mid", color=colour(i), alpha=0.28 if len(counts) > 1 else 0.4, linewidth=0
        )
        axes.step(x[seen], y[seen], where="mid", color=colour(i), linewidth=1.5, label=_label(name))
    t = torch.linspace(low, high, 600, dtype=torch.float64)
    t = t[(t.abs() < 1)]
    for number, d in enumerate(sorted(dims)):
        law = log_marginal_density(t, d).exp()
        label = "uniform points" + (f", d = {d}" if len(dims) > 1 else "")
        line = ("--", ":", "-.")[number % 3]
        axes.plot(t, law, line, color=_COLOURS["--ink"], linewidth=1.3, label=label)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="cosine of two images", ylabel="density")
    axes.yaxis.set_major_locator(_locator(5))
    _legend(axes)
    return _svg(figure)


def map_figure(
    plane: np.ndarray, shares: tuple[float, float] | None, labels: np.ndarray, classes: int
) -> str:
    """Points of a plane, coloured by class; unlabelled ones all alike. The points are a picture: there are many.

    `shares` of the variance are written at the axes; None for a map whose axes mean nothing.
    """
    figure, axes = _figure(4.6, 4.2)
    stride = -(-len(plane) // _MAP_POINTS)
    plane, labels = plane[::stride], labels[::stride]
    palette = class_colours(max(classes, 1))
    size = 14 if len(plane) <= 1000 else 9
    colours = [palette[k] if 0 <= k < classes else _CLASSES[0] for k in labels.tolist()]
    order = np.random.default_rng(0).permutation(len(plane))  # no class lies on top of the others
    axes.scatter(
        plane[order, 0],
        plane[order, 1],
        s=size,
        c=[colours[i] for i in order],
        linewidths=0,
        alpha=0.75,
        rasterized=True,
    )
    axes.set_aspect("equal", "datalim")
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    if shares is not None:
        axes.set_xlabel(f"first direction, {100 * shares[0]:.0f} % of the variance")
        axes.set_ylabel(f"second, {100 * shares[1]:.0f} %")
    return _svg(figure)


def thumbnail_map(
    plane: np.ndarray, images: Images, labels: np.ndarray, classes: int, *, cells: int = 22, side: int = 44
) -> Image.Image:
    """The images at their places: of those in one cell of a grid the one nearest to its centre is read and shown."""
    low, high = plane.min(0), plane.max(0)
    extent = max(float((high - low).max()), 1e-12)
    middle = (low + high) / 2
    place = (plane - middle) / extent * cells * 0.999 + cells / 2
    cell = np.clip(np.floor(place).astype(int), 0, cells - 1)
    miss = np.square(place - cell - 0.5).sum(1)
    best: dict[tuple[int, int], int] = {}
    for i in np.argsort(miss, kind="stable").tolist():
        best.setdefault((int(cell[i, 0]), int(cell[i, 1])), i)
    columns = [c for c, _ in best] or [0]
    rows = [r for _, r in best] or [0]
    left, bottom = min(columns), min(rows)
    width, height = (max(columns) - left + 1) * side, (max(rows) - bottom + 1) * side
    sheet = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    palette = class_colours(max(classes, 1))
    for ((column, row), i), image in zip(best.items(), images(list(best.values())), strict=True):
        x, y = (column - left) * side, height - (row - bottom + 1) * side
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        smooth = Image.Resampling.LANCZOS if pixels.shape[0] > side else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(pixels).resize((side - 4, side - 4), smooth), (x + 2, y + 2))
        if 0 <= labels[i] < classes:
            ImageDraw.Draw(sheet).rectangle(
                (x, y, x + side - 1, y + side - 1), outline=palette[labels[i]], width=3
            )
    return sheet


def _uniform(n: int, d: int) -> Tensor:
    return sample_uniform(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _cosine_counts(z: Tensor, edges: np.ndarray) -> np.ndarray:
    unit = functional.normalize(paired(z).float(), dim=1)
    bins = len(edges) - 1
    counts = torch.zeros(bins, dtype=torch.float64)
    for here, cosines in inner_product_blocks(unit, unit):
        counts += torch.histc(cosines.clamp(-1, 1), bins, -1, 1).double()
        own = cosines[torch.arange(len(cosines)), torch.arange(here.start, here.stop)]
        counts -= torch.histc(own.clamp(-1, 1), bins, -1, 1).double()
    return counts.numpy()


def _figure(width: float, height: float) -> tuple[Any, Any]:
    matplotlib = matplotlib_or_words()
    with matplotlib.rc_context(_STYLE):
        figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _legend(axes: Any) -> None:
    shown = axes.legend(loc="best", frameon=False, labelcolor=_COLOURS["--ink"], fontsize=9.5)
    for text in shown.get_texts():
        text.set_parse_math(False)  # a dollar in a name is a dollar


def _label(name: str) -> str:
    """The name of a run in a legend, from which matplotlib leaves out what begins with an underscore."""
    return printable(f" {name}" if name.startswith("_") else name)


def _locator(most: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most)


def _svg(figure: Any) -> str:
    """The figure as an <svg> element: colours as variables of the page, ids that no other figure has."""
    matplotlib = matplotlib_or_words()
    stream = io.BytesIO()
    with (
        matplotlib.rc_context(_STYLE),
        warnings.catch_warnings(action="ignore"),
    ):  # of characters without a glyph
        figure.savefig(
            stream, format="svg", transparent=True, dpi=180, metadata={"Date": None, "Creator": None}
        )
    text = stream.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    for name, value in _COLOURS.items():
        text = text.replace(value, f"var({name})")
    tag = f"f{next(_serial)}-"
    text = re.sub(r'\bid="', f'id="{tag}', text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{tag}", text)
    text = text.replace("font-family: 'DejaVu Sans', sans-serif; ", "")
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.S)
    return re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        r'<svg role="img" \1 stroke-linejoin="round" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
