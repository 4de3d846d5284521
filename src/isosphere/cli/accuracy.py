"""The tasks that predict labels: nearest neighbours, linear probe, kernel ridge, each beside what costs nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from isosphere.cli.exam import Exam
from isosphere.cli.judgement import Judgement, percent
from isosphere.errors import UsageError
from isosphere.evaluation import (
    WCCN,
    WHITENING,
    Estimate,
    knn_predict,
    linear_predict,
    paired_difference,
    pca_whitened,
    pixels,
    ridge_classify,
    standardised,
    wilson,
)
from isosphere.evaluation.descent import ADAMW_RATES, EPOCHS, SGD_RATES
from isosphere.evaluation.linear import PENALTIES
from isosphere.evaluation.ridge import RIDGES

__all__ = ["judge_knn", "judge_linear", "judge_ridge"]

NEIGHBOURS, TEMPERATURE = 20, 0.07
PIXEL_SIDE, PRINCIPAL = 32, 256
KAPPAS, EXACT, LANDMARKS = (2.0, 8.0, 32.0), 2000, 1024
"""Of the exponential kernel; solved exactly up to EXACT training rows, so that all contenders take a minute."""
DESCENT = {"decay": 0, "batch": 256, "schedule": "cosine to 0"}

Predict = Callable[[str, Tensor, Tensor, Tensor], Tensor]
"""From the contender's key, training features and labels, and test features, to labels."""
Contenders = dict[str, tuple[str, Callable[[], tuple[Tensor, Tensor]]]]


def judge_knn(exam: Exam) -> Judgement:
    """Accuracy of 20 nearest neighbours by cosine, as features are, whitened, and by their views; beside pixels and the
    untrained encoder.
    """
    _check(exam, "knn")

    def predict(key: str, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        return knn_predict(train_x, train_y, test_x, k=NEIGHBOURS, temperature=TEMPERATURE)

    title = f"k-NN accuracy, % [95 %]; k = {NEIGHBOURS}"
    protocol = {"k": NEIGHBOURS, "temperature": TEMPERATURE, "whitened_shrinkage": WHITENING}
    return _judge(exam, title, {"": predict}, protocol, also=_other_metrics(exam))


def judge_linear(exam: Exam) -> Judgement:
    """Accuracy of logistic regression on standardised features, its settings chosen within the training set."""
    _check(exam, "linear")
    chosen: dict[str, Any] = {}

    def predict(key: str, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        made = linear_predict(train_x, train_y, test_x, solver=exam.probe)
        found: dict[str, Any] = (
            {"penalty": made.penalty} if made.rate is None else {"rate": made.rate, "epochs": made.epochs}
        )
        chosen[key] = found | {"at_edge": made.at_edge, "converged": made.converged}
        return made.labels

    grids: dict[str, dict[str, Any]] = {
        "lbfgs": {"solver": "L-BFGS", "penalties": PENALTIES},
        "adamw": {"solver": "AdamW", "rates": ADAMW_RATES, "epochs": EPOCHS} | DESCENT,
        "sgd": {"solver": "SGD, momentum 0.9", "rates": SGD_RATES, "epochs": EPOCHS} | DESCENT,
    }
    words = {"lbfgs": "logistic regression", "adamw": "AdamW", "sgd": "SGD"}[exam.probe]
    protocol = {
        **grids[exam.probe],
        "standardised": True,
        "validation": "stratified fifth of the training set",
    }
    title = f"Linear probe accuracy, % [95 %]; {words}"
    return _judge(exam, title, {"": predict}, protocol | {"chosen": chosen})


def judge_ridge(exam: Exam) -> Judgement:
    """Accuracy of regression on class indicators with the exponential and the linear kernel of cosines."""
    _check(exam, "ridge")
    chosen: dict[str, Any] = {}

    def exponential(key: str, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        labels, made = ridge_classify(
            train_x, train_y, test_x, kappas=KAPPAS, exact_up_to=EXACT, landmarks=LANDMARKS
        )
        chosen[key] = {
            "kappa": made.kappa,
            "penalty": made.penalty,
            "at_edge": made.at_edge,
            "solver": made.solver,
        }
        return labels

    def linear(key: str, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        labels, made = ridge_classify(train_x, train_y, test_x, kernel="linear")
        chosen[f"{key}/linear"] = {"penalty": made.penalty, "at_edge": made.at_edge, "solver": made.solver}
        return labels

    title = "Kernel ridge accuracy, % [95 %]"
    made = _judge(
        exam,
        title,
        {"": exponential, "/linear": linear},
        {
            "kernel": "exp(kappa (cosine - 1))",
            "choice": "exact leave-one-out error",
            "kappas": KAPPAS,
            "penalties": RIDGES,
            "exact_up_to": EXACT,
            "landmarks": LANDMARKS,
            "landmark_seed": 0,
            "chosen": chosen,
        },
        columns=["features", "exponential kernel", "linear kernel"],
    )
    solver = chosen["trained/backbone"]["solver"]
    return made if solver.startswith("exact") else replace(made, title=f"{made.title}; {solver}")


def _check(exam: Exam, task: str) -> None:
    if not exam.sets.labelled:
        raise UsageError(
            f"the task {task} needs labels, that is, a folder for each class, and there are none: leave --tasks "
            "out, or type --tasks retrieval,geometry."
        )


def _judge(
    exam: Exam,
    title: str,
    predictors: Mapping[str, Predict],
    protocol: dict[str, Any],
    columns: list[str] | None = None,
    also: Contenders | None = None,
) -> Judgement:
    """Every contender by every predictor (its name ends the figure's); the first predictor decides."""
    contenders = _contenders(exam, also or {})
    train_y, test_y = torch.as_tensor(exam.train.labels), torch.as_tensor(exam.test.labels)
    known = test_y >= 0
    correct: dict[str, Tensor] = {}
    dims: dict[str, int] = {}
    figures: dict[str, Estimate] = {}
    names = {key: name for key, (name, _) in contenders.items()}
    for key, (_, features) in contenders.items():
        train_x, test_x = features()
        dims[key] = train_x.shape[1]
        for ending, predict in predictors.items():
            right = (predict(key, train_x, train_y, test_x).cpu() == test_y)[known].double()
            figures[key + ending] = wilson(float(right.sum()), int(known.sum()))
            if ending == "":
                correct[key] = right
    rival = max((key for key in correct if not key.startswith("trained")), key=lambda key: figures[key].value)
    return Judgement(
        title=f"{title}, {int(known.sum()):,} test images",
        columns=columns or ["features", "accuracy"],
        rows=[[name, *(percent(figures[key + e]) for e in predictors)] for key, name in names.items()],
        figures=figures,
        protocol={
            **protocol,
            "train_images": len(exam.train),
            "test_images": int(known.sum()),
            "classes": len(exam.train.class_names),
            "division": exam.sets.division,
            "pixel_side": min(PIXEL_SIDE, exam.size),
            "principal_components": dims["pca"],
        },
        gain=paired_difference(correct["trained/backbone"], correct[rival]),
        rival=names[rival],
        hint=_worth_a_metric(correct),
        headline=f"{100 * figures['trained/backbone'].value:.1f} % of the labels are right",
    )


def _contenders(exam: Exam, also: Contenders) -> Contenders:
    """Names and features (training, test) of those who take part, by the key of their figures; encoders come first."""
    found: Contenders = {
        "trained/backbone": ("trained encoder", lambda: _pair(exam, "trained", "backbone")),
        "trained/head": ("its head", lambda: _pair(exam, "trained", "head")),
    }
    for layer, blocks in exam.blocks.items():
        found[f"trained/{layer}"] = (
            f"class tokens of its last {blocks} blocks" if blocks > 1 else "class token of its last block",
            lambda layer=layer: (exam.tokens(layer, "train"), exam.tokens(layer, "test")),
        )
    if "untrained" in exam.methods:
        found["untrained/backbone"] = (
            f"{exam.untrained_name} encoder",
            lambda: _pair(exam, "untrained", "backbone"),
        )
    return (
        found
        | also
        | {
            "pixels": ("raw pixels", lambda: _pixels(exam)),
            "pca": ("PCA-whitened pixels", lambda: _whitened(exam)),
        }
    )


def _other_metrics(exam: Exam) -> Contenders:
    """The trained encoder in the metric of its views, where the run has it; and the encoders with features that are
    brought to one variance in every direction, as whitened pixels are.
    """
    names = {"trained": "trained encoder", "untrained": f"{exam.untrained_name} encoder"}

    def features(who: str) -> tuple[Tensor, Tensor]:
        train, test = standardised(*_pair(exam, who, "backbone"), shrinkage=WHITENING)
        return train, test

    def by_views(metric: WCCN) -> tuple[Tensor, Tensor]:
        train, test = _pair(exam, "trained", "backbone")
        return metric(train), metric(test)

    found: Contenders = {}
    if exam.metric is not None:
        found["trained/views"] = "trained encoder, by its views", partial(by_views, exam.metric)
    return found | {
        f"{who}/whitened": (f"{name}, whitened", partial(features, who))
        for who, name in names.items()
        if who in exam.methods
    }


def _worth_a_metric(correct: Mapping[str, Tensor]) -> str:
    """A sentence where features in another metric are better beyond the interval; else nothing."""
    words = {
        "trained/views": ("In the metric of its views", "search uses it, and embed --layer wccn writes it"),
        "trained/whitened": (
            "Whitened",
            "as they are, they lie in few directions. In Python: "
            f"isosphere.evaluation.standardised(train, others, shrinkage={WHITENING:g})",
        ),
    }
    there = [key for key in words if key in correct]
    if not there:
        return ""
    best = max(there, key=lambda key: correct[key].mean().item())
    gain = paired_difference(correct[best], correct["trained/backbone"])
    if not gain.low > 0:
        return ""
    how, advice = words[best]
    return (
        f"{how}, the encoder's features find {100 * gain.value:.1f} points more [{100 * gain.low:.1f}, "
        f"{100 * gain.high:.1f}]: {advice}."
    )


def _pair(exam: Exam, who: str, layer: str) -> tuple[Tensor, Tensor]:
    return getattr(exam.centre(who, "train"), layer), getattr(exam.centre(who, "test"), layer)


def _pixels(exam: Exam) -> tuple[Tensor, Tensor]:
    side = min(PIXEL_SIDE, exam.size)
    return pixels(exam.train.images, size=side), pixels(exam.test.images, size=side)


def _whitened(exam: Exam) -> tuple[Tensor, Tensor]:
    """Half as many components as long as the training pixels do not vary in so many directions."""
    train, test = _pixels(exam)
    dim = min(PRINCIPAL, len(train) - 1, train.shape[1])
    while True:
        try:
            return pca_whitened(train, test, dim)
        except ValueError:
            if dim == 1:  # all training images are the same: nothing can be whitened
                return torch.zeros(len(train), 1), torch.zeros(len(test), 1)
            dim //= 2
