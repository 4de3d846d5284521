"""What a person asks for, from Python or from the command line: train, evaluate, report, and a run to apply."""

from typing import TYPE_CHECKING, Any

from isosphere.models import fit_adaptation
from isosphere.workflows._adapt import Adapting, adapt, prepare_adaptation
from isosphere.workflows._bundle import bundle
from isosphere.workflows._classifier import Classifier, ProbeResult, check_probe_file, probe
from isosphere.workflows._collection import Collection, collection_of, recorded_threshold, training_images
from isosphere.workflows._compare import PASSES, Rank, Ranking, compare
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows._copies import CopySample, sample_copies
from isosphere.workflows._duplicates import (
    Answers,
    Duplicates,
    Precision,
    check_threshold,
    kept_names,
    precision_in_words,
    read_answers,
    write_list,
    write_pairs,
)
from isosphere.workflows._evaluate import evaluate
from isosphere.workflows._itself import mark_itself
from isosphere.workflows._labelled import LabelledImages, labelled_images
from isosphere.workflows._lists import (
    OUTLIER_NEIGHBOURS,
    Cluster,
    Outlier,
    Selected,
    clusters_of,
    list_count,
    outlier_neighbours,
    outliers_of,
    select_from,
)
from isosphere.workflows._networks import RECOMMENDED as RECOMMENDED_NETWORKS
from isosphere.workflows._progress import progress_bar
from isosphere.workflows._refit import Version, check_refit, next_version, refit
from isosphere.workflows._report import Report, report
from isosphere.workflows._result import Evaluation
from isosphere.workflows._run import Run, load
from isosphere.workflows._settings import FLAGS, check_processes, configure, nothing_left, require_out
from isosphere.workflows._shown import DRAWN, SIDE, duplicate_groups, match_groups
from isosphere.workflows._splits import choose_splits
from isosphere.workflows._train import train
from isosphere.workflows._training import Training, prepare_training, resolve_without_images
from isosphere.workflows._uncertainty import match_uncertainty
from isosphere.workflows._update import Foreign, Update, Updating, prepare_update, update
from isosphere.workflows._views import draw_views, views
from isosphere.workflows.tasks import TASKS, Task

if TYPE_CHECKING:
    from isosphere.workflows._transformer import FeatureAdapter, RunTransformer

__all__ = [
    "DRAWN",
    "FLAGS",
    "OUTLIER_NEIGHBOURS",
    "PASSES",
    "RECOMMENDED_NETWORKS",
    "SIDE",
    "TASKS",
    "Adapting",
    "Answers",
    "Classifier",
    "Cluster",
    "Collection",
    "CopySample",
    "Duplicates",
    "Evaluation",
    "EvaluationContext",
    "FeatureAdapter",
    "Foreign",
    "LabelledImages",
    "Outlier",
    "Precision",
    "ProbeResult",
    "Rank",
    "Ranking",
    "Report",
    "Run",
    "RunTransformer",
    "Selected",
    "Task",
    "Training",
    "Update",
    "Updating",
    "Version",
    "adapt",
    "bundle",
    "check_probe_file",
    "check_processes",
    "check_refit",
    "check_threshold",
    "choose_splits",
    "clusters_of",
    "collection_of",
    "compare",
    "configure",
    "draw_views",
    "duplicate_groups",
    "evaluate",
    "fit_adaptation",
    "kept_names",
    "labelled_images",
    "list_count",
    "load",
    "match_groups",
    "mark_itself",
    "match_uncertainty",
    "next_version",
    "nothing_left",
    "outlier_neighbours",
    "outliers_of",
    "precision_in_words",
    "prepare_adaptation",
    "prepare_training",
    "prepare_update",
    "probe",
    "progress_bar",
    "read_answers",
    "recorded_threshold",
    "refit",
    "report",
    "require_out",
    "resolve_without_images",
    "sample_copies",
    "select_from",
    "train",
    "training_images",
    "update",
    "views",
    "write_list",
    "write_pairs",
]


def __getattr__(name: str) -> Any:
    if name in ("FeatureAdapter", "RunTransformer"):  # the one module that needs scikit-learn
        from isosphere.workflows import _transformer

        return getattr(_transformer, name)
    raise AttributeError(f"module 'isosphere.workflows' has no attribute {name!r}")
