"""What a person asks for, from Python or from the command line: train, evaluate, report, and a run to apply."""

from typing import TYPE_CHECKING, Any

from isosphere.workflows._run import Run, load
from isosphere.workflows.evaluate import evaluate
from isosphere.workflows.report import Report, report
from isosphere.workflows.result import Evaluation
from isosphere.workflows.settings import FLAGS, check_processes, configure, require_out
from isosphere.workflows.tasks import TASKS, Task
from isosphere.workflows.train import train
from isosphere.workflows.training import Training, prepare_training, resolve_without_images
from isosphere.workflows.views import draw_views

if TYPE_CHECKING:
    from isosphere.workflows.transformer import RunTransformer

__all__ = [
    "FLAGS",
    "TASKS",
    "Evaluation",
    "Report",
    "Run",
    "RunTransformer",
    "Task",
    "Training",
    "check_processes",
    "configure",
    "draw_views",
    "evaluate",
    "load",
    "prepare_training",
    "report",
    "require_out",
    "resolve_without_images",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "RunTransformer":  # the one part that needs scikit-learn
        from isosphere.workflows.transformer import RunTransformer

        return RunTransformer
    raise AttributeError(f"module 'isosphere.workflows' has no attribute {name!r}")
