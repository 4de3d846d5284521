"""How classes lie among the embeddings, in numbers with intervals."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.data import permutation
from isosphere.evaluation._intervals import Estimate, bootstrap
from isosphere.evaluation._jackknife import GROUPS, jackknife, symmetric
from isosphere.evaluation._labels import finite_rows, integer_labels, labelled_rows
from isosphere.statistics import (
    class_angles,
    fisher_ratio,
    kmeans,
    normalised_mutual_information,
    silhouettes,
)

STRUCTURE_ROWS = 4000
"""Rows of which silhouette and clusters are computed: the time of the silhouette grows with the square."""


def class_structure(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, *, most: int = STRUCTURE_ROWS, seed: int = 0
) -> dict[str, Estimate]:
    """Separation of the classes by direction, each with a 95 % interval.

    Args:
        x, y: ``(n, p)`` features, normalised first, and ``(n,)`` labels; rows labelled -1 are left out, and of
            the others at least 20 are needed.
        most: silhouette and clusters are of at most so many rows, drawn by the seed.
        seed: of the rows and of k-means.

    Returns: ``fisher_ratio`` (variance between over within classes); ``class_angle`` and ``class_angle_min``: mean
    and smallest angle between class means in degrees, seen from their mean (largest possible: arccos(-1 / (C -
    1))); ``silhouette`` (-1 to 1); ``kmeans_nmi``: mutual information of classes with as many clusters of k-means
    (0 to 1). nan for a single class.

    Intervals: a jackknife over ten groups of rows; for the silhouette the bootstrap over rows. Clusters are held
    fixed meanwhile.

    Raises: ValueError for shapes that disagree, non-finite rows, or fewer than 20 labelled ones.
    """
    rows, labels = labelled_rows(finite_rows(x, "x"), integer_labels(y, "y"), ("x", "y"))
    if len(rows) < 2 * GROUPS:
        raise ValueError(f"x, y: got {len(rows)} labelled rows, expected at least {2 * GROUPS}")
    # In a random order, so that no group of the jackknife is a class.
    order = permutation(len(rows), seed, 0).to(rows.device)
    rows, labels = functional.normalize(rows[order], dim=1), labels[order]
    count = len(labels.unique())
    if count == 1:
        unknown = Estimate(*[float("nan")] * 3)
        return dict.fromkeys(
            ("fisher_ratio", "class_angle", "class_angle_min", "silhouette", "kmeans_nmi"), unknown
        )

    def separation(chosen: Tensor) -> Tensor:
        angles = class_angles(rows[chosen], labels[chosen])
        pairs = angles[~torch.eye(len(angles), dtype=torch.bool, device=angles.device)]
        ratio = fisher_ratio(rows[chosen], labels[chosen])
        return torch.stack([ratio, pairs.mean(), pairs.amin() if len(pairs) else pairs.mean()])

    everything = torch.arange(len(rows), device=rows.device)
    values, errors = separation(everything).tolist(), jackknife(everything, separation).tolist()
    some = everything[:most]
    clusters, _, _ = kmeans(rows[some], min(count, len(some)), seed=seed)

    def agreement(chosen: Tensor) -> Tensor:
        return normalised_mutual_information(clusters[chosen], labels[chosen])

    return {
        "fisher_ratio": symmetric(values[0], errors[0], 0.0),
        "class_angle": symmetric(values[1], errors[1], 0.0, 180.0),
        "class_angle_min": symmetric(values[2], errors[2], 0.0, 180.0),
        "silhouette": bootstrap(silhouettes(rows[some], labels[some]), seed=seed),
        "kmeans_nmi": symmetric(float(agreement(some)), float(jackknife(some, agreement)), 0.0, 1.0),
    }
