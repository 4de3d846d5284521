"""A run with its images, threshold and classifier as a folder that runs elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from isosphere import deploy
from isosphere.data import Source
from isosphere.deploy import Bundled, Layer, check_bundle, source_of, write_bundle
from isosphere.errors import UsageError, command, option
from isosphere.workflows._classifier import Classifier
from isosphere.workflows._collection import Collection, collection_of
from isosphere.workflows._copies import sample_copies
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._run import Run, load


@keywords_checked
def bundle(
    run: Run | str | Path,
    out: str | Path | None = None,
    data: Any = None,
    *,
    layer: Layer | str | None = None,
    classifier: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Callback = True,
) -> Bundled:
    """Write a folder with the encoder, its metric and all that belongs to it: ``isosphere.bundle("runs/a", "served")``.

    Args:
        run: a run, or its folder. out: the folder. data: the images to search; None: those of the run's collection,
            else those of its training.
        layer: the features that are compared; :attr:`isosphere.deploy.Embedder.search_layer` if None.
        classifier: a file of :func:`isosphere.probe`; None: ``probe.safetensors`` of the run where it is there and of
            this network.
        overwrite: replace a bundle.

    The folder is complete or absent. It is checked before it appears: what it computes are the vectors of the run.

    Raises: UsageError for what cannot be bundled, such as a classifier of another network, or a missing package.
    """
    run = run if isinstance(run, Run) else load(run)
    if out is None:
        raise UsageError(f"{option('out')} is missing: {command('bundle', run.called, out='FOLDER')}")
    check_bundle(out, overwrite=overwrite)
    kept: Collection | None = None
    if data is None:
        run, source, kept = collection_of(run)
    else:
        source = source_of(data)
    run, _ = run.settled(source)
    chosen = run.search_layer if layer is None else run.check_layer(layer)
    probe, remarks = _probe(run, classifier)
    with progress_bar("Embedding", progress) as bar:
        index = run.index(source, layer=chosen, progress=bar)
        copies = _copies(run, source, index, kept, bar)
    made = write_bundle(
        run,
        out,
        source.read_as(run.reading),
        index,
        probe=None if probe is None else (probe.probe, probe.layer),
        copies=copies,
        overwrite=overwrite,
    )
    return replace(made, remarks=(*made.remarks, *remarks))


def _copies(
    run: Run, source: Source, index: deploy.Index, kept: Collection | None, progress: Callback | None
) -> tuple[deploy.Index, float] | None:
    """The images by the layer that tells copies best, with its threshold, as ``dedup`` takes it; None of one image."""
    if len(index) < 2:
        return None

    def by(layer: Layer) -> deploy.Index:
        return index if layer == index.layer else run.index(source, layer=layer, progress=progress)

    if kept is not None and kept.copies is not None:
        return by(kept.copies), kept.thresholds[kept.copies]
    sample = sample_copies(run, source, progress=progress)
    of_best = by(sample.best)
    return of_best, sample.choose(of_best).threshold


def _probe(run: Run, file: str | Path | None) -> tuple[Classifier | None, list[str]]:
    """The classifier that goes along, and what there is to say of one that does not."""
    own = run.folder.path / "probe.safetensors"
    if file is not None:
        found = Classifier.read(file)
        found.require(run)
        return found, []
    if not own.exists():
        return None, []
    found = Classifier.read(own)
    try:
        found.require(run)
    except UsageError as error:
        return None, [f"{own} was left out: {error}"]
    return found, []
