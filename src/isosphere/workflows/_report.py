"""One page about a run, or several side by side: the workflow behind ``isosphere report`` and ``Run.report``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.data import Source, as_source, images_at
from isosphere.errors import IsosphereError, UsageError, option
from isosphere.evaluation import read_results
from isosphere.report import Embedded, Subject, check_map, report_page
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import CollapseMetrics, verdict
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._result import tables_of
from isosphere.workflows._splits import check_limit, own_images, sample
from isosphere.workflows._trained import Trained

SEED = 0
"""All runs of a page are shown the same images."""


@dataclass(frozen=True)
class Report:
    """A page that was written, and what it warns of, by run."""

    path: Path
    warnings: tuple[tuple[str, str], ...] = ()


def report(
    runs: Trained | str | Path | Sequence[Trained | str | Path],
    data: Any = None,
    *,
    map: str = "pca",
    limit: int = 2000,
    out: str | Path | None = None,
    overwrite: bool = False,
    cache: bool = True,
    progress: bool | Callback = True,
) -> Report:
    """Write one page: what was run, curves, figures, neighbours, maps, signs of collapse; one file, no network.

    Args:
        runs: one or several runs, or their folders.
        data: images to show; None: those of the run, their test part if any.
        map: how embeddings are brought to the plane, ``pca`` or ``umap``.
        limit: show the runs so many images. out: file to write; None: ``report.html`` in the first run's folder.

    Raises: UsageError for runs or images that cannot be opened, or a file that exists without `overwrite`.
    """
    given = [runs] if isinstance(runs, (Trained, str, Path)) else list(runs)
    if not given:
        raise UsageError("no run: name the folder of one.")
    chosen = check_map(map)
    check_limit(limit)
    paths = [run.folder.path if isinstance(run, Trained) else RunFolder.open(run).path for run in given]
    target = paths[0] / "report.html" if out is None else Path(out)
    if out is not None and target.exists() and not overwrite:
        raise UsageError(f"{out} exists: add {option('overwrite', True)}, or give another {option('out')}.")
    names = _names(paths)
    sources: dict[str, Source] = {}
    subjects = []
    with progress_bar("Embedding", progress) as bar:
        for name, one in zip(names, given, strict=True):
            run = one if isinstance(one, Trained) else Trained.read(one, cache=cache)
            subjects.append(_subject(name, run, data, limit, sources, bar))
    tables = tables_of({subject.name: read_results(subject.folder) for subject in subjects})
    report_page(subjects, target, tables=tables, map_kind=chosen)
    warnings = tuple((subject.name, alarm) for subject in subjects for alarm in subject.alarms)
    return Report(target, warnings)


def _subject(
    name: str, run: Trained, data: Any, limit: int, sources: dict[str, Source], progress: Callback
) -> Subject:
    alarms = [words] if (words := _verdict(run)) else []
    embedded = None
    try:
        wanted = own_images(run.config.data.source) if data is None else data
        key = str(wanted) if isinstance(wanted, (str, Path)) else ""
        if key not in sources:
            sources[key] = sample(_shown_part(wanted), limit, SEED)
        embedded = _embedded(run, sources[key], progress)
    except IsosphereError as error:
        if data is not None:  # asked for by name: an error. Else the page says what it lacks.
            raise
        said = " ".join(str(error).split()).rstrip(".")
        alarms.append(
            f"Its images could not be opened, so that none are shown ({said}). Name some with {option('data', 'DATA')}."
        )
    return Subject(name, run.folder, embedded, tuple(alarms))


def _shown_part(data: Any) -> Source:
    source = as_source(data, split="train")
    return (
        as_source(data, split="test").with_class_names(source.class_names)
        if source.has_test_split
        else source
    )


def _embedded(run: Trained, source: Source, progress: Callback) -> Embedded:
    kept, features, failed = run.source_features(source)
    progress(len(source), len(source))
    if not len(kept):
        first = next(iter(failed.values()), "there are none")
        raise UsageError(f"none of the images of {source.name} can be read ({first})")
    return Embedded(
        lambda rows: images_at(source, kept[np.asarray(rows)], run.canvas),
        source.labels[kept],
        [source.paths[i] for i in kept],
        source.class_names,
        features.head,
        features.backbone,
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest names that tell the runs apart."""
    whole = [path.resolve() for path in paths]
    for depth in range(1, 1 + max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    raise UsageError("the same run is named twice: name each once.")


def _verdict(run: Trained) -> str | None:
    """What the monitor would say of the last figures that it measured."""
    for row in reversed(read_metrics(run.folder.metrics)):
        try:
            found = CollapseMetrics(float(row["cosine"]), float(row["alignment"]), float(row["dimensions"]))
            return verdict(found, progress=1.0, steps=int(row["step"]))
        except (KeyError, ValueError):
            continue
    return None
