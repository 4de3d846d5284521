"""Accuracy on frozen features, beside that of what costs nothing: what k-NN, linear probe and kernel ridge share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from isosphere.errors import option
from isosphere.evaluation import (
    WCCN,
    WHITENING,
    Figure,
    TaskResult,
    paired_difference,
    pca_whitened,
    standardised,
    wilson,
)
from isosphere.report import Layout, model_words
from isosphere.workflows._context import EvaluationContext, Need
from isosphere.workflows.tasks._base import SHARES, common_protocol

Predict = Callable[["Candidate", Tensor, Tensor, Tensor], Tensor]
"""From the candidate, training features and labels, and test features, to labels."""


@dataclass(frozen=True)
class Candidate:
    """A model and layer, or a baseline, with its features of training and test images, made when asked for."""

    model: str
    layer: str
    features: Callable[[], tuple[Tensor, Tensor]]

    @property
    def words(self) -> str:
        return model_words(self.model, self.layer)


def needs(context: EvaluationContext) -> list[Need]:
    """Centre views of all models, class tokens where layers are named, and pixels, of training and test images."""
    looks = [f"{model}/centre" for model in context.models]
    looks += [f"trained/{layer}" for layer in context.blocks] + ["pixels"] * context.baselines
    return [Need(part, look) for part in ("train", "test") for look in looks]


def accuracy_layout(title: str, **words: str) -> Layout:
    """Features down; one column, or one for each variant that has words."""
    columns = ("variant",) if words else ("metric",)
    return Layout(f"{title}; {{test_images:,}} test images", columns=columns, percent=SHARES, words=words)


def candidates(context: EvaluationContext) -> list[Candidate]:
    """The trained encoder and, unless baselines are left out, what it has to be better than."""

    def both(rows: Callable[[str], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        return lambda: (rows("train"), rows("test"))

    found = [
        Candidate("trained", "backbone", both(lambda part: context.centre("trained", part).backbone)),
        Candidate("trained", "head", both(lambda part: context.centre("trained", part).head)),
    ]
    found += [Candidate("trained", layer, both(partial(context.tokens, layer))) for layer in context.blocks]
    if (first := context.baseline) in context.models:
        found.append(Candidate(first, "backbone", both(lambda part: context.centre(first, part).backbone)))
    if not context.baselines:
        return found
    pixels = both(lambda part: context.rows(part, "pixels")["pixels"])
    found.append(Candidate("pixels", "", pixels))
    found.append(Candidate("pca", "", lambda: pca_whitened(*pixels())))
    return found


def other_metrics(context: EvaluationContext) -> list[Candidate]:
    """The trained encoder's features under WCCN, where the run has it, and those of all models whitened."""

    def both(model: str) -> list[Tensor]:
        return [context.centre(model, part).backbone for part in ("train", "test")]

    def normalised(wccn: WCCN) -> tuple[Tensor, Tensor]:
        train, test = map(wccn, both("trained"))
        return train, test

    def whitened(model: str) -> tuple[Tensor, Tensor]:
        train, test = standardised(*both(model), shrinkage=WHITENING)
        return train, test

    wccn = context.wccn
    found = [] if wccn is None else [Candidate("trained", "wccn", partial(normalised, wccn))]
    return found + [Candidate(model, "whitened", partial(whitened, model)) for model in context.models]


def compare(
    context: EvaluationContext,
    task: str,
    predictors: Mapping[str, Predict],
    protocol: dict[str, Any],
    also: Sequence[Candidate] = (),
) -> TaskResult:
    """Accuracy of every candidate by every predictor, whose name is the figure's variant; the first one decides."""
    train_y, test_y = context.labels("train"), context.labels("test")
    known = test_y >= 0
    first = next(iter(predictors))
    correct: dict[tuple[str, str], Tensor] = {}
    figures: list[Figure] = []
    components = 0
    for candidate in [*candidates(context), *also]:
        train_x, test_x = candidate.features()
        for variant, predict in predictors.items():
            right = (predict(candidate, train_x, train_y, test_x).cpu() == test_y)[known].double()
            estimate = wilson(float(right.sum()), int(known.sum()))
            figures.append(Figure(candidate.model, candidate.layer, "accuracy", estimate, variant=variant))
            if variant == first:
                correct[candidate.model, candidate.layer] = right
        components = train_x.shape[1] if candidate.model == "pca" else components
        del train_x, test_x
    ours = correct["trained", "backbone"]
    others = [key for key in correct if key[0] != "trained"]
    rival = max(others, key=lambda key: float(correct[key].mean())) if others else None
    return TaskResult(
        task,
        tuple(figures),
        {
            **protocol,
            **common_protocol(context),
            "train_images": len(train_y),
            "test_images": int(known.sum()),
            "classes": len(context.splits.train.class_names),
            "pixel_side": context.pixel_side,
            "principal_components": components,
        },
        gain=paired_difference(ours, correct[rival]) if rival else None,
        rival=model_words(*rival) if rival else "",
        headline=f"{100 * float(ours.mean()):.1f} % of the labels are right",
        hint=_worth_a_metric(correct),
    )


def _worth_a_metric(correct: Mapping[tuple[str, str], Tensor]) -> str:
    """A sentence where features in another metric are better beyond the interval; else nothing."""
    advice = {
        "wccn": ("With WCCN", f"search uses it, and embed with {option('layer', 'wccn')} writes it"),
        "whitened": (
            "Whitened",
            "as they are, they lie in few directions. In Python: "
            f"isosphere.evaluation.standardised(train, others, shrinkage={WHITENING:g})",
        ),
    }
    there = [layer for layer in advice if ("trained", layer) in correct]
    if not there:
        return ""
    best = max(there, key=lambda layer: float(correct["trained", layer].mean()))
    gain = paired_difference(correct["trained", best], correct["trained", "backbone"])
    if not gain.low > 0:
        return ""
    how, what = advice[best]
    value, low, high = (100 * x for x in (gain.value, gain.low, gain.high))
    return f"{how}, the encoder's features find {value:.1f} points more [{low:.1f}, {high:.1f}]: {what}."
