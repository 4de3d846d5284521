"""Statistics of embeddings: pure functions of tensors, shared by training's monitor and by evaluation."""

from isosphere.statistics._alignment import COLLAPSED, alignment, mean_cosine, uniformity
from isosphere.statistics._clusters import kmeans, normalised_mutual_information
from isosphere.statistics._dimension import lidar, local_intrinsic_dimensions
from isosphere.statistics._neighbourhood import neighbours_kept, two_view_hits
from isosphere.statistics._roots import inverse_root, shrunk, within_root
from isosphere.statistics._spectrum import covariance_spectrum, effective_rank, participation_ratio, rankme
from isosphere.statistics._structure import class_angles, fisher_ratio, silhouettes
from isosphere.statistics._within import within_covariance, within_share

__all__ = [
    "COLLAPSED",
    "alignment",
    "class_angles",
    "covariance_spectrum",
    "effective_rank",
    "fisher_ratio",
    "inverse_root",
    "kmeans",
    "lidar",
    "local_intrinsic_dimensions",
    "mean_cosine",
    "neighbours_kept",
    "normalised_mutual_information",
    "participation_ratio",
    "rankme",
    "shrunk",
    "silhouettes",
    "two_view_hits",
    "uniformity",
    "within_covariance",
    "within_root",
    "within_share",
]
