"""What the points of the map are coloured by: a class, a cluster, or a number of each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere import statistics
from isosphere.explore._collection import Collection
from isosphere.sphere import chord
from isosphere.statistics import Clusters
from isosphere.tabular import encode_name
from isosphere.workflows import OUTLIER_NEIGHBOURS, outlier_neighbours


@dataclass(frozen=True)
class Column:
    """A value of each image: the position of its class in `names` (-1: none), or where there are no names a number.

    `title` and `note` say in words what it is.
    """

    title: str
    values: NDArray[np.int32] | NDArray[np.float32]
    names: Sequence[str] | None = None
    note: str = ""


def column_names(collection: Collection) -> dict[str, str]:
    """The columns that there are, with their titles; :func:`column` makes each."""
    labelled = collection.source.has_labels
    found = {"class": "class"} if labelled else {}
    found |= {"cluster": "cluster", "ood": "distance to neighbours (OOD score)"}
    found |= {"agreement": "neighbours of the same class"} if labelled else {}
    found |= {"uncertainty": "uncertainty (minus ELBO)"} if collection.scores is not None else {}
    return found


def column(collection: Collection, name: str) -> Column:
    """A column by its name, computed once. Raises: KeyError if there is none."""
    title = column_names(collection)[name]
    make = {
        "class": _classes,
        "cluster": lambda collection, title: cluster_column(clusters(collection), title),
        "ood": _distances,
        "agreement": _agreement,
        "uncertainty": _uncertainty,
    }[name]
    return collection.once.get(("column", name), lambda: make(collection, title))


def _classes(collection: Collection, title: str) -> Column:
    return Column(title, collection.source.labels.astype(np.int32), collection.source.class_names)


def usual_clusters(collection: Collection) -> int:
    """How many unless a number is asked for: as many as classes, else the root of half the images; 40 at most."""
    classes = len(collection.source.class_names)
    wanted = classes if classes > 1 else round((len(collection) / 2) ** 0.5)
    return max(1, min(40, wanted, len(collection)))


def clusters(collection: Collection, k: int | None = None) -> Clusters:
    """Clusters of the images, the largest first; the same every time."""
    count = usual_clusters(collection) if k is None else k
    return collection.once.get(
        ("clusters", count), lambda: statistics.clusters(collection.unit(), count, restarts=1)
    )


def cluster_column(found: Clusters, title: str = "cluster") -> Column:
    """Of each image the number of its cluster."""
    names = [str(number) for number in range(1, len(found.sizes) + 1)]
    return Column(title, found.assigned.numpy().astype(np.int32), names, "By k-means.")


def _distances(collection: Collection, title: str) -> Column:
    """Distance to the k-th nearest other image, as :func:`isosphere.statistics.neighbour_distances`, of neighbours that
    are known already.
    """
    cosines, _ = collection.graph()
    k = min(outlier_neighbours(len(collection)), cosines.shape[1])
    values = chord(cosines[:, k - 1]).numpy().astype(np.float32)
    return Column(title, values, note=f"Distance to nearest image {k} on the unit sphere: 0 (a copy) to 2.")


def _agreement(collection: Collection, title: str) -> Column:
    """Share of the 10 nearest other images that have the same class; nan without one."""
    _, rows = collection.graph()
    labels = torch.as_tensor(collection.source.labels)
    k = min(OUTLIER_NEIGHBOURS, rows.shape[1])
    same = (labels[rows[:, :k]] == labels[:, None]).float().mean(1)
    values = torch.where(labels >= 0, same, torch.nan).numpy().astype(np.float32)
    return Column(title, values, note=f"Share of the {k} nearest images that have the same class: 0 to 1.")


def _uncertainty(collection: Collection, title: str) -> Column:
    assert collection.scores is not None
    note = "Minus the evidence lower bound, in nats: higher where the model explains the image worse."
    return Column(title, collection.scores(), note=note)


def as_json(found: Column) -> dict[str, Any]:
    """A column for the page: numbers as they are, rounded to what can be seen."""
    shared = {"title": found.title, "note": found.note}
    if found.names is not None:
        return {**shared, "names": list(map(encode_name, found.names)), "values": found.values.tolist()}
    values = [round(value, 5) if np.isfinite(value) else None for value in found.values.tolist()]
    return {**shared, "values": values}
