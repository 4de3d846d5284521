"""Judging a frozen encoder: features, k-NN, retrieval, geometry, baselines; each figure with its interval."""

from isosphere.evaluation.baselines import (
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
    standardised,
)
from isosphere.evaluation.classes import ClassOutcomes, class_outcomes, class_retrieval
from isosphere.evaluation.features import Features, extract, extract_views
from isosphere.evaluation.geometry import geometry
from isosphere.evaluation.intervals import Estimate, bootstrap, paired_difference, wilson
from isosphere.evaluation.knn import knn, knn_predict
from isosphere.evaluation.retrieval import (
    InstanceNeighbours,
    InstanceRanks,
    instance_neighbours,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
)

__all__ = [
    "ClassOutcomes",
    "Estimate",
    "Features",
    "InstanceNeighbours",
    "InstanceRanks",
    "bootstrap",
    "class_outcomes",
    "class_retrieval",
    "extract",
    "extract_views",
    "geometry",
    "instance_neighbours",
    "instance_protocol",
    "instance_ranks",
    "instance_retrieval",
    "knn",
    "knn_predict",
    "paired_difference",
    "pca_whitened",
    "pixels",
    "rotation_invariant_descriptor",
    "standardised",
    "wilson",
]
