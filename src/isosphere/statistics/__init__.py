"""Statistics of embeddings: pure functions of tensors, shared by training's monitor and by evaluation."""

from isosphere.statistics.alignment import alignment, mean_cosine, uniformity
from isosphere.statistics.spectrum import covariance_spectrum, effective_rank, participation_ratio, rankme
from isosphere.statistics.within import within_share

__all__ = [
    "alignment",
    "covariance_spectrum",
    "effective_rank",
    "mean_cosine",
    "participation_ratio",
    "rankme",
    "uniformity",
    "within_share",
]
