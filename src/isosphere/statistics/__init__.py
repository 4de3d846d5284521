"""Statistics of embeddings: pure functions of tensors, shared by training's monitor and by evaluation."""

from isosphere.statistics._alignment import COLLAPSED, alignment, mean_cosine, uniformity
from isosphere.statistics._clusters import Clusters, clusters, kmeans, normalised_mutual_information
from isosphere.statistics._dimension import lidar, local_intrinsic_dimensions
from isosphere.statistics._neighbourhood import (
    k_occurrences,
    neighbour_directions,
    neighbours_kept,
    two_view_hits,
)
from isosphere.statistics._pairs import PairLaw, pair_law
from isosphere.statistics._roots import inverse_root, shrunk, within_root
from isosphere.statistics._selection import (
    farthest_first,
    neighbour_distances,
    typical_rows,
    typicality,
)
from isosphere.statistics._spectrum import covariance_spectrum, effective_rank, participation_ratio, rankme
from isosphere.statistics._structure import class_angles, fisher_ratio, silhouettes
from isosphere.statistics._within import within_covariance, within_share

__all__ = [
    "COLLAPSED",
    "Clusters",
    "PairLaw",
    "alignment",
    "class_angles",
    "clusters",
    "covariance_spectrum",
    "effective_rank",
    "farthest_first",
    "fisher_ratio",
    "inverse_root",
    "k_occurrences",
    "kmeans",
    "lidar",
    "local_intrinsic_dimensions",
    "mean_cosine",
    "neighbour_directions",
    "neighbour_distances",
    "neighbours_kept",
    "normalised_mutual_information",
    "pair_law",
    "participation_ratio",
    "rankme",
    "shrunk",
    "silhouettes",
    "two_view_hits",
    "typical_rows",
    "typicality",
    "uniformity",
    "within_covariance",
    "within_root",
    "within_share",
]
