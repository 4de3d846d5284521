"""Judging a frozen encoder: features, k-NN, retrieval, geometry, baselines; each figure with its interval."""

from isosphere.evaluation.features import Features, extract, extract_views
from isosphere.evaluation.intervals import Estimate, bootstrap, paired_difference, wilson
from isosphere.evaluation.knn import knn, knn_predict
from isosphere.evaluation.retrieval import (
    InstanceRanks,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
)

__all__ = [
    "Estimate",
    "Features",
    "InstanceRanks",
    "bootstrap",
    "extract",
    "extract_views",
    "instance_protocol",
    "instance_ranks",
    "instance_retrieval",
    "knn",
    "knn_predict",
    "paired_difference",
    "wilson",
]
