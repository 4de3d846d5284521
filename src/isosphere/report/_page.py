"""The report: what was run, what came of it and what it looks like, one run or several, in one file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isosphere.reading import read_text
from isosphere.reductions import nearest_neighbours
from isosphere.report import _figures as figures
from isosphere.report._collapse import PAIRED, collapse_tiles
from isosphere.report._facts import facts_of
from isosphere.report._gallery import Card
from isosphere.report._maps import NOTES, MapKind, embed_plane
from isosphere.report._pictures import data_uri, thumbnail
from isosphere.report._plots import in_words, numbers_of
from isosphere.report._tables import Table
from isosphere.report._template import write_page
from isosphere.runs import RunFolder, read_metrics

QUERIES, FOUND = 8, 8


@dataclass(frozen=True)
class Embedded:
    """Images that a run was shown, and what it made of them.

    Args:
        images: reads the images of some rows; a few hundred are asked for.
        labels: ``(n,)``, -1 for none. paths: n names.
        head: ``(n, d)``. backbone: ``(n, p)``, the same where there is no head. words: what the backbone's rows are.
    """

    images: figures.Images
    labels: NDArray[np.int64]
    paths: Sequence[str]
    class_names: Sequence[str]
    head: Tensor
    backbone: Tensor
    words: str = "Features of the encoder"


@dataclass(frozen=True)
class Subject:
    """A run in a report: its folder, images it was shown (None: there are none to show), and what to warn of."""

    name: str
    folder: RunFolder
    embedded: Embedded | None = None
    alarms: Sequence[str] = ()


@dataclass
class _Section:
    """What the template needs of one run."""

    name: str
    config: str
    alarms: Sequence[str]
    tiles: list[dict[str, str]] = field(default_factory=list)
    neighbours: list[dict[str, Any]] = field(default_factory=list)
    maps: list[dict[str, str]] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)


def report_page(
    subjects: Sequence[Subject],
    path: str | Path,
    *,
    tables: Sequence[Table] = (),
    map_kind: MapKind = "pca",
) -> Path:
    """Write one HTML file about one or several runs: figures as SVG, pictures as data, nothing fetched.

    Args:
        tables: of the runs' evaluation, as :func:`isosphere.report.evaluation_tables` makes them.
        map_kind: how embeddings are brought to the plane, ``pca`` or ``umap``.

    Raises: UsageError if matplotlib, Jinja2 or UMAP (where asked for) is missing; RunError if the file cannot
        be written; ValueError without a run.
    """
    if not subjects:
        raise ValueError("subjects: got none, expected at least one run")
    embedded = {s.name: s.embedded for s in subjects if s.embedded is not None}
    heads = {name: shown.head for name, shown in embedded.items()}
    first = next(iter(embedded.values()), None)
    sections = [_section(subject, map_kind) for subject in subjects]
    legends = [section.legend for section in sections if section.name in embedded]
    shared_legend = all(legend == legends[0] for legend in legends)
    counts = dict.fromkeys(f"{len(z):,}" for z in heads.values())
    same = all(list(x.paths) == list(first.paths) for x in embedded.values()) if first is not None else False
    curves = _curves([read_metrics(s.folder.metrics) for s in subjects])
    anchors = {
        "figures": ("evaluation", tables),
        "sphere": ("embeddings", embedded),
        "neighbours": ("neighbours", embedded),
        "map": ("maps", embedded),
        "curves": ("training", curves),
        "run": ("settings", True),
    }
    names = [s.name for s in subjects]
    values = {
        "title": names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}",
        "lead": _lead(subjects),
        "several": len(subjects) > 1,
        "runs": sections,
        "sections": [(anchor, words) for anchor, (words, shown) in anchors.items() if shown],
        "tables": tables,
        "embedded": ", ".join(counts),
        "same_images": same,
        "pairs": f" among {PAIRED:,} of them" if any(len(z) > PAIRED for z in heads.values()) else "",
        "labelled": any(bool((x.labels >= 0).any()) for x in embedded.values()),
        "map_note": NOTES[map_kind],
        "legend": legends[0] if legends and shared_legend else [],
        "shared_legend": shared_legend,
        "spectrum": figures.spectrum_figure(heads) if heads else "",
        "cosines": figures.cosine_figure(heads) if heads else "",
        "curves": curves,
        "facts": facts_of([s.folder for s in subjects]),
    }
    return write_page(path, "report.html", values)


def _lead(subjects: Sequence[Subject]) -> str:
    parts = []
    for subject in subjects:
        config = subject.folder.read_config()
        method, encoder = config.get("method", {}).get("name"), config.get("model", {}).get("encoder")
        images = config.get("data", {}).get("source")
        if method == "frozen":
            parts.append(f"{encoder} as it is" + (f", adapted to {images}" if images else ""))
        else:
            parts.append(f"{encoder} trained by {method} on {images}")
    return "; ".join(dict.fromkeys(parts))


def _section(subject: Subject, map_kind: MapKind) -> _Section:
    text = read_text(subject.folder.config)
    section = _Section(subject.name, text, subject.alarms)
    shown = subject.embedded
    if shown is None:
        return section
    section.tiles = collapse_tiles(shown.head, read_metrics(subject.folder.metrics))
    section.neighbours = _neighbours(shown)
    section.maps = _maps(shown, map_kind)
    section.legend = _legend(shown)
    return section


def _neighbours(shown: Embedded) -> list[dict[str, Any]]:
    n = len(shown.head)
    if n < 2:
        return []
    rows = _queries(shown.labels, n)
    unit = functional.normalize(shown.backbone.float(), dim=1)
    cosines, found = nearest_neighbours(unit[rows], unit, min(FOUND, n - 1), exclude=rows)
    needed = torch.cat([rows, found.flatten()]).unique().tolist()
    pictures = dict(zip(needed, map(thumbnail, shown.images(needed)), strict=True))

    def card(i: int, detail: str, marked: bool = False) -> Card:
        return Card(pictures[i], str(shown.paths[i]), detail, marked)

    made = []
    for q, values, indices in zip(rows.tolist(), cosines.tolist(), found.tolist(), strict=True):
        label = int(shown.labels[q])
        name = shown.class_names[label] if 0 <= label < len(shown.class_names) else ""
        cards = [
            card(i, f"{cosine:.2f}", label >= 0 and int(shown.labels[i]) == label)
            for i, cosine in zip(indices, values, strict=True)
        ]
        made.append({"query": card(q, name), "found": cards})
    return made


def _queries(labels: NDArray[np.int64], n: int) -> Tensor:
    """The first image of each of a few classes, or images spread over the set."""
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        return torch.linspace(0, n - 1, min(QUERIES, n)).round().long()
    chosen = classes[np.linspace(0, len(classes) - 1, min(QUERIES, len(classes))).round().astype(int)]
    return torch.tensor([int(np.flatnonzero(labels == k)[0]) for k in chosen])


def _maps(shown: Embedded, map_kind: MapKind) -> list[dict[str, str]]:
    classes = len(shown.class_names)
    made: list[dict[str, str]] = []
    layers = {"backbone": shown.words}
    if shown.head is not shown.backbone:
        layers["head"] = "Embeddings of the head"
    for layer, words in layers.items():
        unit = functional.normalize(getattr(shown, layer).float(), dim=1)
        plane, shares = embed_plane(unit, map_kind)
        coloured = ", coloured by class" if (shown.labels >= 0).any() else ""
        made.append(
            {"svg": figures.map_figure(plane, shares, shown.labels, classes), "words": f"{words}{coloured}."}
        )
        if layer == "backbone":
            sheet = figures.thumbnail_map(plane, shown.images, shown.labels, classes)
            words = "The images at their places on the map of features; of those in a cell, one is shown."
            made.append({"image": data_uri(sheet), "words": words})
    return made


def _legend(shown: Embedded) -> list[tuple[str, str]]:
    """Names of classes with their colours; nothing without labels, or of more classes than colours tell apart."""
    names = shown.class_names
    if len(names) > 20 or not (shown.labels >= 0).any():
        return []
    return list(zip(names, figures.class_colours(len(names)), strict=True))


def _curves(metrics: Sequence[list[dict[str, str]]]) -> list[dict[str, str]]:
    tables = [numbers_of(rows) for rows in metrics]
    names = dict.fromkeys(name for _, columns in tables for name in columns)
    made = []
    for name in (name for name in names if name not in ("seconds", "images")):
        curves = []
        for steps, columns in tables:
            values = columns.get(name)
            seen = None if values is None else np.isfinite(values)
            curves.append(None if values is None or seen is None else (steps[seen], values[seen]))
        last = ", ".join(f"{c[1][-1]:.4g}" for c in curves if c is not None)
        made.append({"name": in_words(name), "svg": figures.curve_figure(curves), "last": last})
    return made
