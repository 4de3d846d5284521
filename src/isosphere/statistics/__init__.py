"""Statistics of embeddings: pure functions of tensors, shared by training's monitor and by evaluation."""

from isosphere.statistics.alignment import COLLAPSED, alignment, mean_cosine, uniformity
from isosphere.statistics.clusters import kmeans, normalised_mutual_information
from isosphere.statistics.dimension import lidar, local_intrinsic_dimensions
from isosphere.statistics.spectrum import covariance_spectrum, effective_rank, participation_ratio, rankme
from isosphere.statistics.structure import class_angles, fisher_ratio, silhouettes
from isosphere.statistics.within import within_covariance, within_share

__all__ = [
    "COLLAPSED",
    "alignment",
    "class_angles",
    "covariance_spectrum",
    "effective_rank",
    "fisher_ratio",
    "kmeans",
    "lidar",
    "local_intrinsic_dimensions",
    "mean_cosine",
    "normalised_mutual_information",
    "participation_ratio",
    "rankme",
    "silhouettes",
    "uniformity",
    "within_covariance",
    "within_share",
]
