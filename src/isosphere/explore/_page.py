"""A page of a run and its images, with all that it needs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from isosphere.evaluation import Progress
from isosphere.explore._annotations import Annotations
from isosphere.explore._collection import Collection
from isosphere.explore._pictures import Pictures
from isosphere.explore._plane import plane_of
from isosphere.explore._resources import Resources
from isosphere.report import check_map
from isosphere.workflows import Run

Phase: TypeAlias = Callable[..., AbstractContextManager[Progress]]
"""What is called with the name of a part of the work, and `of`: what is counted."""


@contextmanager
def _silent(what: str, *, of: str = "") -> Iterator[Progress]:
    yield lambda done, total: None


@dataclass(frozen=True)
class Page:
    """What is served: resources by name, pictures, and where what people say of them is kept."""

    resources: Resources
    pictures: Pictures
    annotations: Annotations


def explored(
    run: Run,
    data: Any,
    *,
    layer: str | None = None,
    map_kind: str | None = None,
    phase: Phase = _silent,
) -> Page:
    """The page of the readable images of `data` by a run; :func:`isosphere.explore.serve` serves it,
    :func:`isosphere.explore.export_page` writes it.

    `layer` of the map and the lists: :attr:`isosphere.deploy.Embedder.search_layer` if None. `map_kind`: ``umap`` or
    ``pca``; UMAP where it is installed if None. `phase`: what shows how far each part of the work is, such as
    :func:`isosphere.workflows.progress_bar`.

    Raises: UsageError for a layer that the run does not have, or another kind of map; RunError if no image can be read.
    """
    if map_kind is not None:
        check_map(map_kind)
    with phase("Embedding") as progress:
        collection = Collection.of_run(run, data, layer=layer, progress=progress)
    folder = None if run.cache is None else run.folder.path / "search"
    with phase("Map", of="epochs") as progress:
        plane = plane_of(collection.unit(), map_kind, folder=folder, progress=progress)
    annotations = Annotations(collection, run.folder.path)
    labels = str(annotations.labels_file)
    return Page(
        Resources(
            collection,
            plane,
            labels=labels,
            labelled=lambda: annotations.read()["labels"],
            unwritten=annotations.unwritten,
        ),
        Pictures(collection.source),
        annotations,
    )
