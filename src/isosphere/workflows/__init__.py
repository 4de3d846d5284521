"""What a person asks for, from Python or from the command line: train, evaluate, report, and a run to apply."""

from typing import TYPE_CHECKING, Any

from isosphere.workflows._run import Run, load
from isosphere.workflows.context import EvaluationContext
from isosphere.workflows.evaluate import evaluate
from isosphere.workflows.report import report
from isosphere.workflows.result import Evaluation
from isosphere.workflows.splits import choose_splits
from isosphere.workflows.tasks import TASKS, Task
from isosphere.workflows.train import Training, prepare_training, train
from isosphere.workflows.views import draw_views

if TYPE_CHECKING:
    from isosphere.workflows.transformer import RunTransformer

__all__ = [
    "TASKS",
    "Evaluation",
    "EvaluationContext",
    "Run",
    "RunTransformer",
    "Task",
    "Training",
    "choose_splits",
    "draw_views",
    "evaluate",
    "load",
    "prepare_training",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "RunTransformer":  # the one part that needs scikit-learn
        from isosphere.workflows.transformer import RunTransformer

        return RunTransformer
    raise AttributeError(f"module 'isosphere.workflows' has no attribute {name!r}")
