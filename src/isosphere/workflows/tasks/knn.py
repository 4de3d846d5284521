"""Accuracy of the nearest neighbours by cosine."""

from torch import Tensor

from isosphere.evaluation import WHITENING, TaskResult, knn_predict
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows.tasks._accuracy import Candidate, accuracy_layouts, compare, needs, other_metrics
from isosphere.workflows.tasks._base import Task

__all__ = ["KNN", "NEIGHBOURS", "TEMPERATURE"]

NEIGHBOURS, TEMPERATURE = 20, 0.07


def run(context: EvaluationContext) -> TaskResult:
    """Features as they are, whitened and under WCCN; beside pixels and the untrained encoder."""

    def predict(candidate: Candidate, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        return knn_predict(train_x, train_y, test_x, k=NEIGHBOURS, temperature=TEMPERATURE)

    protocol = {"k": NEIGHBOURS, "temperature": TEMPERATURE, "whitened_shrinkage": WHITENING}
    return compare(context, "knn", {"": predict}, protocol, also=other_metrics(context))


KNN = Task(
    "knn",
    "accuracy of the 20 nearest neighbours",
    run,
    needs,
    accuracy_layouts("k-NN {measure}, % [95 %]; k = {{k}}"),
    needs_labels=True,
    quick=lambda context: context.splits.labelled,
)
