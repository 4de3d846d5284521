"""Accuracy on frozen features, beside that of what costs nothing: what k-NN, linear probe and kernel ridge share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from isosphere.devices import on_device_or_cpu
from isosphere.errors import option
from isosphere.evaluation import (
    WCCN,
    WHITENING,
    Figure,
    TaskResult,
    balanced_accuracy,
    class_recalls,
    class_weights,
    paired_difference,
    pca_whitened,
    standardised,
    wilson,
)
from isosphere.report import Layout, model_words
from isosphere.workflows._context import EvaluationContext, Need
from isosphere.workflows.tasks._base import SHARES, common_protocol, verdict

LARGEST = "largest-class"
"""Whoever always names the class that has the most training images: the base rate."""
IMBALANCED = 1.5
"""Share of the largest class, relative to an even one, from which balanced accuracy is compared."""
RECALLS_SHOWN = 10
"""Classes in the table of recalls; all are kept."""

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


def accuracy_layouts(title: str, **words: str) -> list[Layout]:
    """Features down, and for each variant that has words accuracy and balanced accuracy; then the recall of classes.

    `title`: with ``{measure}`` for what is measured.
    """
    plain = {f"accuracy/{variant}": said for variant, said in words.items()}  # goes without saying
    words = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "recall": "recall", **words, **plain}
    return [
        Layout(
            title.format(measure="accuracy") + "; {test_images:,} test images; {seen}",
            columns=("metric", "variant"),
            only=lambda f: f.metric in ("accuracy", "balanced_accuracy"),
            percent=SHARES,
            words=words,
        ),
        Layout(
            title.format(measure="recall of each class") + "; the lowest of {recalled}",
            rows=("subset",),
            columns=("model", "layer"),
            only=lambda f: f.metric == "recall",
            percent=SHARES,
            words=words,
            corner="class",
            most=RECALLS_SHOWN,
        ),
    ]


def candidates(context: EvaluationContext) -> list[Candidate]:
    """The trained encoder and, unless baselines are left out, what it has to be better than."""

    def both(rows: Callable[[str], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        return lambda: (rows("train"), rows("test"))

    found = [Candidate("trained", layer, both(partial(context.output, layer))) for layer in context.layers]
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

    wccn = context.wccn if context.judged != "wccn" else None
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
    classes = _Classes(train_y, test_y[known])
    # What each class counts in the comparison: alike, where one of them would decide it.
    weights = class_weights(classes.asked) if classes.imbalanced else torch.ones(len(classes.asked)).double()
    correct: dict[tuple[str, str], Tensor] = {}
    figures: list[Figure] = []
    components = 0
    for candidate in [*candidates(context), *also]:
        train_x, test_x = candidate.features()
        for variant, predict in predictors.items():
            said = on_device_or_cpu(partial(predict, candidate), train_x, train_y, test_x).cpu()
            right = (said == test_y)[known].double()
            figures += _shares(candidate.model, candidate.layer, right, classes, variant)
            if variant == first:
                correct[candidate.model, candidate.layer] = right
        components = train_x.shape[1] if candidate.model == "pca" else components
        del train_x, test_x
    for variant in predictors:
        figures += _shares(LARGEST, "", classes.largest_named, classes, variant)
    judged = ("trained", context.judged)
    ours = correct[judged]
    names = context.splits.train.class_names
    recalls = [
        Figure(*judged, "recall", estimate, subset=names[label], variant=first)
        for label, estimate in class_recalls(ours, classes.asked).items()
    ]
    recalls.sort(key=lambda figure: figure.value)
    if context.baselines:  # of equals the one that costs least is named
        correct = {(LARGEST, ""): classes.largest_named} | correct
    scored = {key: weights * right for key, right in correct.items()}
    return TaskResult(
        task,
        (*figures, *recalls),
        {
            **protocol,
            **common_protocol(context),
            "train_images": len(train_y),
            "test_images": int(known.sum()),
            "classes": len(names),
            "largest_class": names[classes.largest],
            "imbalanced": classes.imbalanced,
            **({"recalled": f"{len(recalls):,} classes"} if len(recalls) > RECALLS_SHOWN else {}),
            "pixel_side": context.pixel_side,
            "principal_components": components,
        },
        **verdict(context, scored, judged),
        headline=_headline(TITLES.get(task, task.capitalize()), ours, classes, names[classes.largest]),
        hint=_worth_a_metric(scored, judged),
    )


class _Classes:
    """The classes of the labelled test images, `asked`, and how one fares that always names the largest."""

    def __init__(self, learned: Tensor, asked: Tensor) -> None:
        self.asked = asked
        self.largest = int(learned[learned >= 0].bincount().argmax())
        self.largest_named = (asked == self.largest).double()

    @property
    def imbalanced(self) -> bool:
        """Whether accuracy says little: the largest class has half as much again as an even share, or more."""
        counts = self.asked.unique(return_counts=True)[1]
        return len(counts) > 1 and int(counts.max()) * len(counts) >= IMBALANCED * len(self.asked)


def _shares(model: str, layer: str, right: Tensor, classes: _Classes, variant: str) -> list[Figure]:
    accuracy = wilson(float(right.sum()), len(right))
    balanced = balanced_accuracy(right, classes.asked)
    return [
        Figure(model, layer, "accuracy", accuracy, variant=variant),
        Figure(model, layer, "balanced_accuracy", balanced, variant=variant),
    ]


TITLES = {"knn": "k-NN", "linear": "Linear-probe", "ridge": "Kernel-ridge"}
"""Tasks at the beginning of a sentence on their accuracy."""


def _headline(task: str, right: Tensor, classes: _Classes, largest: str) -> str:
    accuracy = f"{task} accuracy is {100 * float(right.mean()):.1f} %"
    if not classes.imbalanced:
        return accuracy
    balanced, base = balanced_accuracy(right, classes.asked).value, float(classes.largest_named.mean())
    return (
        f"{task} balanced accuracy, the mean over classes, is {100 * balanced:.1f} % ({accuracy[len(task) + 1 :]}; "
        f"always naming {largest} gives {100 * base:.1f} %)"
    )


def _worth_a_metric(correct: Mapping[tuple[str, str], Tensor], judged: tuple[str, str]) -> str:
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
    gain = paired_difference(correct["trained", best], correct[judged])
    if not gain.low > 0:
        return ""
    how, what = advice[best]
    value, low, high = (100 * x for x in (gain.value, gain.low, gain.high))
    return f"{how}, the encoder's features find {value:.1f} points more [{low:.1f}, {high:.1f}]: {what}."
