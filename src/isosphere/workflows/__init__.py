"""What a person asks for, from Python or from the command line: train, evaluate, report, and a run to apply."""

from typing import TYPE_CHECKING, Any

from isosphere.models import fit_adaptation
from isosphere.workflows._adapt import Adapting, adapt, prepare_adaptation
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows._evaluate import evaluate
from isosphere.workflows._networks import RECOMMENDED as RECOMMENDED_NETWORKS
from isosphere.workflows._progress import progress_bar
from isosphere.workflows._report import Report, report
from isosphere.workflows._result import Evaluation
from isosphere.workflows._run import Run, load
from isosphere.workflows._settings import FLAGS, check_processes, configure, nothing_left, require_out
from isosphere.workflows._shown import DRAWN, SIDE, duplicate_groups, match_groups
from isosphere.workflows._splits import choose_splits
from isosphere.workflows._train import train
from isosphere.workflows._training import Training, prepare_training, resolve_without_images
from isosphere.workflows._views import draw_views, views
from isosphere.workflows.tasks import TASKS, Task

if TYPE_CHECKING:
    from isosphere.workflows._transformer import FeatureAdapter, RunTransformer

__all__ = [
    "DRAWN",
    "FLAGS",
    "RECOMMENDED_NETWORKS",
    "SIDE",
    "TASKS",
    "Adapting",
    "Evaluation",
    "EvaluationContext",
    "FeatureAdapter",
    "Report",
    "Run",
    "RunTransformer",
    "Task",
    "Training",
    "adapt",
    "check_processes",
    "choose_splits",
    "configure",
    "draw_views",
    "duplicate_groups",
    "evaluate",
    "fit_adaptation",
    "load",
    "match_groups",
    "nothing_left",
    "prepare_adaptation",
    "prepare_training",
    "progress_bar",
    "report",
    "require_out",
    "resolve_without_images",
    "train",
    "views",
]


def __getattr__(name: str) -> Any:
    if name in ("FeatureAdapter", "RunTransformer"):  # the one module that needs scikit-learn
        from isosphere.workflows import _transformer

        return getattr(_transformer, name)
    raise AttributeError(f"module 'isosphere.workflows' has no attribute {name!r}")
