"""Accuracy of logistic regression on standardised features, its settings chosen within the training images."""

from typing import Any

from torch import Tensor

from isosphere.evaluation import ADAMW_RATES, EPOCHS, PENALTIES, SGD_RATES, TaskResult, linear_predict
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows.tasks._accuracy import Candidate, accuracy_layouts, compare, needs
from isosphere.workflows.tasks._base import Task

__all__ = ["LINEAR"]

_DESCENT = {"epochs": EPOCHS, "decay": 0, "batch": 256, "schedule": "cosine to 0"}
_GRIDS: dict[str, dict[str, Any]] = {
    "lbfgs": {"solver": "L-BFGS", "penalties": PENALTIES},
    "adamw": {"solver": "AdamW", "rates": ADAMW_RATES} | _DESCENT,
    "sgd": {"solver": "SGD, momentum 0.9", "rates": SGD_RATES} | _DESCENT,
}


def run(context: EvaluationContext) -> TaskResult:
    chosen: list[dict[str, Any]] = []

    def predict(candidate: Candidate, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        made = linear_predict(train_x, train_y, test_x, solver=context.probe)
        settings: dict[str, Any] = (
            {"penalty": made.penalty} if made.rate is None else {"rate": made.rate, "epochs": made.epochs}
        )
        settings |= {"at_edge": made.at_edge, "converged": made.converged}
        chosen.append({"model": candidate.model, "layer": candidate.layer, **settings})
        return made.labels

    protocol = {
        **_GRIDS[context.probe],
        "standardised": True,
        "validation": "stratified fifth of the training set",
        "chosen": chosen,
    }
    return compare(context, "linear", {"": predict}, protocol)


LINEAR = Task(
    "linear",
    "accuracy of a linear probe",
    run,
    needs,
    accuracy_layouts("Linear probe {measure}, % [95 %]; {{solver}}"),
    needs_labels=True,
)
