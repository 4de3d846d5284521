"""One page about a run, or several side by side: the workflow behind ``isosphere report`` and ``Run.report``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.atomic import require_free
from isosphere.data import Source, as_source, images_at, left_out, visible_channels
from isosphere.errors import IsosphereError, UsageError, command, option
from isosphere.evaluation import TaskResult, read_results
from isosphere.report import Embedded, Subject, check_map, collapse_words, mixed, report_page
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import CollapseMetrics, verdict
from isosphere.workflows._advice import spread_out
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._networks import PREFIX, is_network
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._result import tables_of
from isosphere.workflows._splits import changed_images, check_limit, own_images, sample, shown_part
from isosphere.workflows._trained import Trained

SEED = 0
"""All runs of a page are shown the same images."""


@dataclass(frozen=True)
class Report:
    """A page that was written, and what it warns of, by run."""

    path: Path
    warnings: tuple[tuple[str, str], ...] = ()


@keywords_checked
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
        data: images to show; None: those of the run, of these the test part if any.
        map: how embeddings are brought to the plane, ``pca`` or ``umap``.
        limit: show the runs so many images. out: file to write; None: ``report.html`` in the run's folder, of several
            runs ``comparison.html`` in that of the first.

    Raises: UsageError for runs or images that cannot be opened, or a file that exists without `overwrite`.
    """
    given = [runs] if isinstance(runs, (Trained, str, Path)) else list(runs)
    if not given:
        raise UsageError("no run: name the folder of one.")
    chosen = check_map(map)
    check_limit(limit)
    paths = [_folder(run) for run in given]
    name = "report.html" if len(paths) == 1 else "comparison.html"
    target = (paths[0] or Path()) / name if out is None else Path(out)
    if out is None and paths[0] is None:
        raise UsageError(f"{given[0]} is a network without a folder of its own: give {option('out', name)}.")
    if out is None and paths[0] is not None and not RunFolder(paths[0]).writable:
        raise UsageError(f"{paths[0]} cannot be written to: give {option('out', name)}.")
    require_free(target, overwrite=overwrite or out is None)
    names = _names([path or Path(_plain(run)) for path, run in zip(paths, given, strict=True)])
    sources: dict[str, Source] = {}
    subjects = []
    found: dict[str, dict[str, TaskResult]] = {}
    with progress_bar("Embedding", progress) as bar:
        for name, one in zip(names, given, strict=True):
            run = one if isinstance(one, Trained) else Trained.read(one, cache=cache)
            if run.network is not None and not run.folder.config.exists():
                raise UsageError(
                    f"{run.folder.path}, where what is known of {run.network} is kept, cannot be written to: name "
                    "another folder by ISOSPHERE_CACHE."
                )
            found[name], stale = _of_these_weights(run, read_results(run.folder))
            said = [*_said_of(run, stale), *_doubts(run, found[name])]
            subjects.append(_subject(name, run, data, limit, sources, bar, said))
    report_page(subjects, target, tables=tables_of(found), map_kind=chosen)
    warnings = tuple((subject.name, alarm) for subject in subjects for alarm in subject.alarms)
    return Report(target, warnings)


def _subject(
    name: str,
    run: Trained,
    data: Any,
    limit: int,
    sources: dict[str, Source],
    progress: Callback,
    said: Sequence[str],
) -> Subject:
    measured = _verdict(run)
    alarms = [measured, *said] if measured else list(said)
    embedded = None
    try:
        wanted = own_images(run) if data is None else data
        if data is None and (changed := changed_images(run, wanted)):
            alarms.append(changed)
        key = str(wanted) if isinstance(wanted, (str, Path)) else f"at hand {id(wanted)}"
        if key not in sources:
            sources[key] = sample(shown_part(wanted) if data is None else as_source(wanted), limit, SEED)
        embedded, skipped = _embedded(run, sources[key], progress)
        if skipped:
            alarms.append(left_out(skipped, "the images shown here"))
        if measured is None and not run.frozen and (seen := collapse_words(embedded.head)):
            alarms.insert(0, f"{seen} {spread_out(run)}")
    except IsosphereError as error:
        if data is not None:  # asked for by name: an error. Else the page says what it lacks.
            raise
        said = " ".join(str(error).split()).rstrip(".")
        alarms.append(
            f"Its images could not be opened, so that none are shown ({said}). Name some with {option('data', 'DATA')}."
        )
    return Subject(name, run.folder, embedded, tuple(alarms))


def _embedded(run: Trained, source: Source, progress: Callback) -> tuple[Embedded, list[tuple[str, str]]]:
    """The images of a source with their features, and which cannot be read."""
    run, _ = run.settled(source)
    source = source.read_as(run.reading)
    kept, features, failed = run.source_features(source)
    progress(len(source), len(source))
    if not len(kept):
        first = next(iter(failed.values()), "there are none")
        raise UsageError(f"none of the images of {source.name} can be read ({first})")
    first = run.select(features, run.layers[0])
    shown = Embedded(
        lambda rows: visible_channels(images_at(source, kept[np.asarray(rows)], run.canvas)),
        source.labels[kept],
        [source.paths[i] for i in kept],
        source.class_names,
        features.head if run.has_head else first,
        first,
        "Adapted features" if run.adaptation else "Features of the encoder",
    )
    return shown, [(source.paths[i], reason) for i, reason in sorted(failed.items())] + source.unreadable


def _folder(run: Trained | str | Path) -> Path | None:
    """Of a run; None of a network of timm, which has none of its own."""
    if isinstance(run, Trained):
        return run.folder.path if run.network is None else None
    return None if is_network(run) else RunFolder.open(run).path


def _plain(run: Trained | str | Path) -> str:
    """A network's name as a path may be."""
    return (run.called if isinstance(run, Trained) else str(run)).removeprefix(PREFIX)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest names that tell the runs apart."""
    whole = [path.resolve() for path in paths]
    for depth in range(1, 1 + max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    raise UsageError("the same run is named twice: name each once.")


def _of_these_weights(
    run: Trained, results: Mapping[str, TaskResult]
) -> tuple[dict[str, TaskResult], dict[str, TaskResult]]:
    """The results of the weights that the run has now, and those of others; an older file does not say, and counts."""
    now = run.judged(run.digest(run.method))
    mine = {task: result for task, result in results.items() if result.weights in ("", now)}
    return mine, {task: result for task, result in results.items() if task not in mine}


def _said_of(run: Trained, stale: Mapping[str, TaskResult]) -> list[str]:
    """Which figures are left out, and how to have them again: a sentence for each set of images."""
    said = []
    for data in dict.fromkeys(result.data for result in stale.values()):
        tasks = [task for task, result in stale.items() if result.data == data]
        said.append(
            f"The figures of {', '.join(tasks)} were measured with other weights than this run has now, and are left "
            f"out. Evaluate it again: {_again(run, tasks, stale)}"
        )
    return said


def _doubts(run: Trained, shown: Mapping[str, TaskResult]) -> list[str]:
    """What the figures that are shown do not say of themselves: whose weights they are of, that their images differ."""
    said = []
    if unknown := [task for task, result in shown.items() if not result.weights]:
        said.append(
            f"The figures of {', '.join(unknown)} do not say of which weights they are, as an earlier version wrote "
            f"them. Evaluate again where the run was trained further since: {_again(run, unknown, shown)}"
        )
    if apart := mixed(shown):
        said.append(
            f"Not all figures are of the same images ({apart}). Evaluate all on the same: "
            f"{_again(run, list(shown), shown)}"
        )
    judged = {task: str(result.protocol.get("judged", run.layers[0])) for task, result in shown.items()}
    if others := [task for task, layer in judged.items() if layer != run.layers[0]]:
        said.append(
            f"The figures of {', '.join(others)} are of the layer {judged[others[0]]}; maps and neighbours on this "
            f"page are of the layer {run.layers[0]}."
        )
    return said


def _again(run: Trained, tasks: Sequence[str], results: Mapping[str, TaskResult]) -> str:
    """How these tasks are evaluated again."""
    named = ",".join(tasks)
    if run.epoch is not None:
        return f'isosphere.load("{run.folder.path}", epoch={run.epoch}).evaluate(tasks="{named}")'
    data = {results[task].data for task in tasks}
    first = data.pop() if len(data) == 1 else ""
    return command(
        "evaluate", run.folder.path, first or "DATA", tasks=named, ood=... if "ood" in tasks else None
    )


def _verdict(run: Trained) -> str | None:
    """What the monitor would say of the last figures that it measured."""
    for row in reversed(read_metrics(run.folder.metrics)):
        try:
            found = CollapseMetrics(float(row["cosine"]), float(row["alignment"]), float(row["dimensions"]))
            setting = run.method.spread_setting
            return verdict(found, progress=1.0, steps=int(row["step"]), spread_setting=setting)
        except (KeyError, ValueError):
            continue
    return None
