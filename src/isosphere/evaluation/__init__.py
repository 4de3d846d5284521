"""Judging a frozen encoder: neighbours, probes, retrieval, novelty, geometry; each figure with its interval."""

from isosphere.evaluation.baselines import pca_whitened, pixels, rotation_invariant_descriptor
from isosphere.evaluation.cache import FeatureCache
from isosphere.evaluation.classes import ClassOutcomes, class_outcomes, class_retrieval
from isosphere.evaluation.features import Features, extract, extract_views
from isosphere.evaluation.geometry import geometry
from isosphere.evaluation.intervals import Estimate, bootstrap, paired_difference, wilson
from isosphere.evaluation.knn import knn, knn_predict
from isosphere.evaluation.linear import LinearPrediction, linear_predict, linear_probe
from isosphere.evaluation.logistic import Logistic, fit_logistic
from isosphere.evaluation.ood import detection, novelty, ood
from isosphere.evaluation.retrieval import (
    InstanceNeighbours,
    InstanceRanks,
    instance_neighbours,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
)
from isosphere.evaluation.ridge import (
    RidgePrediction,
    kernel_ridge,
    knn_regress,
    r_squared,
    ridge_classify,
    ridge_regress,
)
from isosphere.evaluation.shares import load_shares, share
from isosphere.evaluation.structure import class_structure
from isosphere.evaluation.unlabelled import Correlation, spearman, unlabelled
from isosphere.evaluation.wccn import WCCN, learn_wccn
from isosphere.evaluation.whitening import WHITENING, standardised

__all__ = [
    "WHITENING",
    "ClassOutcomes",
    "Correlation",
    "Estimate",
    "FeatureCache",
    "Features",
    "InstanceNeighbours",
    "InstanceRanks",
    "LinearPrediction",
    "Logistic",
    "RidgePrediction",
    "WCCN",
    "bootstrap",
    "class_outcomes",
    "class_retrieval",
    "class_structure",
    "detection",
    "extract",
    "extract_views",
    "fit_logistic",
    "geometry",
    "instance_neighbours",
    "instance_protocol",
    "instance_ranks",
    "instance_retrieval",
    "kernel_ridge",
    "knn",
    "knn_predict",
    "knn_regress",
    "learn_wccn",
    "linear_predict",
    "linear_probe",
    "load_shares",
    "novelty",
    "ood",
    "paired_difference",
    "pca_whitened",
    "pixels",
    "r_squared",
    "ridge_classify",
    "ridge_regress",
    "rotation_invariant_descriptor",
    "share",
    "spearman",
    "standardised",
    "unlabelled",
    "wilson",
]
