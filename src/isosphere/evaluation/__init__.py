"""Judging a frozen encoder: neighbours, probes, retrieval, OOD, geometry; each figure with its interval."""

from isosphere.evaluation.baselines import (
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
    small_pixels,
)
from isosphere.evaluation.cache import FeatureCache, centre_key, weights_identity
from isosphere.evaluation.classes import ClassOutcomes, class_outcomes, class_retrieval
from isosphere.evaluation.descent import ADAMW_RATES, EPOCHS, SGD_RATES
from isosphere.evaluation.features import (
    Features,
    Look,
    MakesViews,
    Progress,
    centre_look,
    extract,
    extract_views,
    first_two,
    look_through,
    unpacked,
    views_look,
)
from isosphere.evaluation.geometry import geometry
from isosphere.evaluation.intervals import Estimate, bootstrap, paired_difference, wilson
from isosphere.evaluation.knn import knn, knn_predict
from isosphere.evaluation.linear import PENALTIES, LinearPrediction, Solver, linear_predict, linear_probe
from isosphere.evaluation.logistic import Logistic, fit_logistic
from isosphere.evaluation.ood import SCORES, detection, novelty, ood
from isosphere.evaluation.results import Figure, TaskResult, read_results, update_results
from isosphere.evaluation.retrieval import (
    InstanceNeighbours,
    InstanceRanks,
    instance_neighbours,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
)
from isosphere.evaluation.ridge import (
    RIDGES,
    RidgePrediction,
    kernel_ridge,
    knn_regress,
    r_squared,
    ridge_classify,
    ridge_regress,
)
from isosphere.evaluation.shares import share
from isosphere.evaluation.structure import STRUCTURE_ROWS, class_structure
from isosphere.evaluation.unlabelled import HIGHER_IS_BETTER, Correlation, ranks, spearman, unlabelled
from isosphere.evaluation.wccn import WCCN, learn_wccn
from isosphere.evaluation.whitening import WHITENING, standardised

__all__ = [
    "ADAMW_RATES",
    "EPOCHS",
    "HIGHER_IS_BETTER",
    "PENALTIES",
    "RIDGES",
    "SCORES",
    "SGD_RATES",
    "STRUCTURE_ROWS",
    "WCCN",
    "WHITENING",
    "ClassOutcomes",
    "Correlation",
    "Estimate",
    "FeatureCache",
    "Features",
    "Figure",
    "InstanceNeighbours",
    "InstanceRanks",
    "LinearPrediction",
    "Logistic",
    "Look",
    "MakesViews",
    "Progress",
    "RidgePrediction",
    "Solver",
    "TaskResult",
    "bootstrap",
    "centre_key",
    "centre_look",
    "class_outcomes",
    "class_retrieval",
    "class_structure",
    "detection",
    "extract",
    "extract_views",
    "first_two",
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
    "look_through",
    "novelty",
    "ood",
    "paired_difference",
    "pca_whitened",
    "pixels",
    "r_squared",
    "ranks",
    "read_results",
    "ridge_classify",
    "ridge_regress",
    "rotation_invariant_descriptor",
    "share",
    "small_pixels",
    "spearman",
    "standardised",
    "unlabelled",
    "unpacked",
    "update_results",
    "views_look",
    "weights_identity",
    "wilson",
]
