"""Judging a frozen encoder: neighbours, probes, retrieval, OOD, geometry; each figure with its interval."""

from isosphere.evaluation._balance import balanced_accuracy, class_recalls, class_weights, mean_recall
from isosphere.evaluation._baselines import (
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
    small_pixels,
)
from isosphere.evaluation._cache import FeatureCache, centre_key, weights_identity
from isosphere.evaluation._classes import ClassOutcomes, class_outcomes, class_retrieval
from isosphere.evaluation._copies import (
    CopyThreshold,
    choose_threshold,
    copy_cosines,
    copy_precision,
    pair_precision,
)
from isosphere.evaluation._descent import ADAMW_RATES, EPOCHS, SGD_RATES
from isosphere.evaluation._features import (
    Features,
    Look,
    MakesViews,
    Progress,
    centre_look,
    extract,
    extract_views,
    first_two,
    look_through,
    packed,
    unpacked,
    views_look,
)
from isosphere.evaluation._folds import grouped_folds, joined_groups
from isosphere.evaluation._geometry import LOCAL_NEIGHBOURS, geometry, hub_neighbours
from isosphere.evaluation._intervals import Estimate, bootstrap, paired_difference, wilson
from isosphere.evaluation._knn import knn, knn_predict
from isosphere.evaluation._linear import PENALTIES, LinearPrediction, Solver, linear_predict, linear_probe
from isosphere.evaluation._logistic import Logistic, fit_logistic
from isosphere.evaluation._ood import SCORES, detection, ood, ood_scores
from isosphere.evaluation._probe import Probe, fit_probe, held_out_labels
from isosphere.evaluation._results import Figure, TaskResult, read_results, update_results
from isosphere.evaluation._retrieval import (
    InstanceNeighbours,
    InstanceRanks,
    instance_neighbours,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
)
from isosphere.evaluation._ridge import (
    RIDGES,
    RidgePrediction,
    kernel_ridge,
    knn_regress,
    r_squared,
    ridge_classify,
    ridge_regress,
)
from isosphere.evaluation._selective import risk_coverage, selective_risk
from isosphere.evaluation._shares import share
from isosphere.evaluation._structure import STRUCTURE_ROWS, class_structure
from isosphere.evaluation._unlabelled import HIGHER_IS_BETTER, Correlation, ranks, spearman, unlabelled
from isosphere.evaluation._wccn import WCCN, learn_wccn
from isosphere.evaluation._whitening import WHITENING, standardised

__all__ = [
    "LOCAL_NEIGHBOURS",
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
    "CopyThreshold",
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
    "Probe",
    "Progress",
    "RidgePrediction",
    "Solver",
    "TaskResult",
    "balanced_accuracy",
    "bootstrap",
    "centre_key",
    "centre_look",
    "class_outcomes",
    "class_recalls",
    "class_retrieval",
    "class_structure",
    "choose_threshold",
    "class_weights",
    "copy_cosines",
    "copy_precision",
    "detection",
    "extract",
    "extract_views",
    "first_two",
    "fit_logistic",
    "fit_probe",
    "geometry",
    "hub_neighbours",
    "grouped_folds",
    "held_out_labels",
    "instance_neighbours",
    "instance_protocol",
    "instance_ranks",
    "instance_retrieval",
    "joined_groups",
    "kernel_ridge",
    "knn",
    "knn_predict",
    "knn_regress",
    "learn_wccn",
    "linear_predict",
    "linear_probe",
    "look_through",
    "mean_recall",
    "ood_scores",
    "ood",
    "paired_difference",
    "pair_precision",
    "pca_whitened",
    "pixels",
    "r_squared",
    "ranks",
    "read_results",
    "ridge_classify",
    "ridge_regress",
    "risk_coverage",
    "rotation_invariant_descriptor",
    "selective_risk",
    "share",
    "small_pixels",
    "spearman",
    "standardised",
    "unlabelled",
    "unpacked",
    "packed",
    "update_results",
    "views_look",
    "weights_identity",
    "wilson",
]
