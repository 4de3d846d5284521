"""``isosphere report``: one page about one run, or several side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import NoCache, counting, error_console, facts, output_console, paragraph
from isosphere.errors import IsosphereError, UsageError

if TYPE_CHECKING:
    from isosphere.data import ImageSet, Source
    from isosphere.deploy import Run
    from isosphere.report import Looked, Subject

__all__ = ["report"]

SEED = 0
"""All runs of a page are shown the same images."""


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Images to show.", show_default="those of the run, test part if any"
        ),
    ] = None,
    map_kind: Annotated[
        str, typer.Option("--map", metavar="pca|umap", help="How embeddings are brought to the plane.")
    ] = "pca",
    limit: Annotated[int, typer.Option(min=2, help="Show the runs so many images.")] = 2000,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write.", show_default="report.html in the first RUN"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file named by --out if it is there.")
    ] = False,
    no_cache: NoCache = False,
) -> None:
    """Write one page about a run: what was run, curves, figures, neighbours, maps, signs of collapse.

    isosphere report RUN [RUN ...]

    Several runs are shown side by side on the same images. The page is a single file that needs no network;
    the table of figures is there if isosphere evaluate was run before.
    """
    from isosphere.cli.apply import check_page

    check_page(out, (".html",), overwrite=overwrite)
    from isosphere.report import report_page
    from isosphere.report.maps import check_map
    from isosphere.runs import RunFolder

    chosen = check_map(map_kind)
    folders = [RunFolder.open(path) for path in runs]
    target = folders[0].path / "report.html" if out is None else out
    with counting(error_console(), "Embedding") as progress:
        subjects = _subjects(runs, data, limit, progress, cache=not no_cache)
    report_page(subjects, target, map_kind=chosen)
    console = output_console()
    facts(console, {"report": str(target), "size": f"{target.stat().st_size / 1e6:.1f} MB"})
    for subject in subjects:
        for alarm in subject.alarms:
            paragraph(console, f"{subject.name}: {alarm}", style="yellow")


def _subjects(
    paths: list[Path], data: str | None, limit: int, progress: Callable[[int, int], None], *, cache: bool
) -> "list[Subject]":
    import isosphere
    from isosphere.report import Subject

    names = _names(paths)
    images: dict[tuple[str, int], ImageSet] = {}
    made = []
    for name, path in zip(names, paths, strict=True):
        run = isosphere.load(path, cache=cache)
        alarms = [words] if (words := _verdict(run)) else []
        looked = None
        chosen = data or (run.folder.read_config().get("data") or {}).get("source")
        try:
            if chosen is None:
                raise UsageError("the run does not say which images it was trained on")
            key = (str(chosen), run.canvas)
            if key not in images:
                images[key] = _sample(str(chosen), run.canvas, limit)
            looked = _look(run, images[key], progress)
        except IsosphereError as error:
            if data is not None:  # asked for by name: an error. Else the page says what it lacks.
                raise
            said = " ".join(str(error).split()).rstrip(".")
            alarms.append(
                f"Its images could not be opened, so that none are shown ({said}). Name some with --data "
                "DATA."
            )
        made.append(Subject(name, run.folder, looked, tuple(alarms)))
    return made


def _names(paths: list[Path]) -> list[str]:
    """The shortest names that tell the runs apart."""
    whole = [path.resolve() for path in paths]
    for depth in range(1, 1 + max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    raise UsageError("the same run is named twice: name each once.")


def _sample(data: str, canvas: int, limit: int) -> "ImageSet":
    from isosphere.data import load_images, open_source

    source = open_source(data, split="train")
    if source.has_test_split:
        source = open_source(data, split="test").with_class_names(source.class_names)
    return load_images(_some(source, limit), canvas)


def _some(source: "Source", limit: int) -> "Source":
    from isosphere.data import permutation

    if limit >= len(source):
        return source
    return source.subset(permutation(len(source), SEED, 0)[:limit].sort().values.numpy())


def _look(run: "Run", images: "ImageSet", progress: Callable[[int, int], None]) -> "Looked":
    from isosphere.report import Looked

    found = run.known_features(images.images, progress=progress)
    return Looked(
        images.images,
        images.labels,
        images.paths,
        images.class_names,
        found.head,
        found.backbone,
        images.name,
    )


def _verdict(run: "Run") -> str | None:
    """What the monitor would say of the last figures that it measured."""
    from isosphere.runs import read_metrics
    from isosphere.training import Gauge, verdict

    for row in reversed(read_metrics(run.folder.metrics)):
        try:
            state = Gauge(float(row["cosine"]), float(row["alignment"]), float(row["dimensions"]))
            return verdict(state, progress=1.0, steps=int(row["step"]))
        except (KeyError, ValueError):
            continue
    return None
