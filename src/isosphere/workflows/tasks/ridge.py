"""Accuracy of regression on class indicators with the exponential and the linear kernel of cosines."""

from typing import Any

from torch import Tensor

from isosphere.evaluation import RIDGES, TaskResult, ridge_classify
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows.tasks._accuracy import Candidate, accuracy_layouts, compare, needs
from isosphere.workflows.tasks._base import Task

__all__ = ["RIDGE"]

KAPPAS, EXACT, LANDMARKS = (2.0, 8.0, 32.0), 2000, 1024
"""Of the exponential kernel; solved exactly up to EXACT training rows, so that all candidates take a minute."""


def run(context: EvaluationContext) -> TaskResult:
    chosen: list[dict[str, Any]] = []

    def note(candidate: Candidate, variant: str, **settings: Any) -> None:
        chosen.append({"model": candidate.model, "layer": candidate.layer, "variant": variant, **settings})

    def exponential(candidate: Candidate, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        labels, made = ridge_classify(
            train_x, train_y, test_x, kappas=KAPPAS, exact_up_to=EXACT, landmarks=LANDMARKS
        )
        settings = {
            "kappa": made.kappa,
            "penalty": made.penalty,
            "at_edge": made.at_edge,
            "solver": made.solver,
        }
        note(candidate, "exponential", **settings)
        return labels

    def linear(candidate: Candidate, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        labels, made = ridge_classify(train_x, train_y, test_x, kernel="linear")
        note(candidate, "linear", penalty=made.penalty, at_edge=made.at_edge, solver=made.solver)
        return labels

    protocol = {
        "kernel": "exp(kappa (cosine - 1))",
        "choice": "exact leave-one-out error",
        "kappas": KAPPAS,
        "penalties": RIDGES,
        "exact_up_to": EXACT,
        "landmarks": LANDMARKS,
        "landmark_seed": 0,
        "chosen": chosen,
    }
    made = compare(context, "ridge", {"exponential": exponential, "linear": linear}, protocol)
    return made if chosen[0]["solver"].startswith("exact") else _approximate(made, chosen[0]["solver"])


def _approximate(made: TaskResult, solver: str) -> TaskResult:
    return TaskResult(**{**vars(made), "protocol": {**made.protocol, "approximation": solver}})


RIDGE = Task(
    "ridge",
    "accuracy of kernel ridge regression",
    run,
    needs,
    accuracy_layouts(
        "Kernel ridge {measure}, % [95 %]; {{approximation}}",
        exponential="exponential kernel",
        linear="linear kernel",
    ),
    needs_labels=True,
)
