"""Finding the other view of an image within batches of 100, and with labels images of the same class among all."""

from torch import Tensor

from isosphere.data import permutation
from isosphere.deploy import Layer
from isosphere.evaluation import (
    Estimate,
    Figure,
    TaskResult,
    class_retrieval,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
    standardised,
)
from isosphere.report import Layout
from isosphere.workflows._context import VIEW_SEED, EvaluationContext, Need
from isosphere.workflows.tasks._base import SHARES, Task, verdict, views_protocol

__all__ = ["BATCH", "RETRIEVAL"]

BATCH = 100
"""Images among which the other view is sought."""
CLASS_IMAGES = 5000
"""Test images among which those of the same class are sought: the time grows with the square."""
_RECALLS = {"map": "mAP", **{name: name.replace("recall", "R") for name in SHARES if "@" in name}}


def run(context: EvaluationContext) -> TaskResult:
    """Of head and backbone, and of a fixed descriptor of textures; among the targets, and among all views."""
    count = context.count("test")
    batch = min(BATCH, count)
    tops = (1, 3, 5) if batch >= 5 else (1,)
    figures: list[Figure] = []
    first_hits: dict[tuple[str, str], Tensor] = {}
    for key, (queries, targets) in _candidates(context).items():
        for variant in ("targets", "all"):
            found = instance_retrieval(queries, targets, batch=batch, k=tops, candidates=variant)
            figures += _figures(key, found, variant)
        first_hits[key] = instance_ranks(queries, targets, batch=batch).recall(1)
    ours = first_hits["trained", context.spread]
    by_class = _same_class(context)
    return TaskResult(
        "retrieval",
        (*figures, *by_class),
        {
            "targets": instance_protocol(count, batch=batch),
            "all": instance_protocol(count, batch=batch, candidates="all"),
            **views_protocol(context),
            **({"class_images": min(count, CLASS_IMAGES)} if by_class else {}),
        },
        **verdict(context, first_hits, ("trained", context.spread)),
        headline=f"Two-view Recall@1 among {batch} images is {100 * float(ours.mean()):.1f} %",
    )


def _candidates(context: EvaluationContext) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    found: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
    for model in context.models:
        first, second = context.views(model)
        for layer in _layers(context, model):
            found[model, layer] = context.run.select(first, layer), context.run.select(second, layer)
    if context.baselines and context.splits.textures:
        learned = context.rows("described", "descriptor")["0"]
        both = context.rows("test", "descriptor")
        _, queries, targets = standardised(learned, both["0"], both["1"], shrinkage=0.5)
        found["descriptor", ""] = queries, targets
    return found


def _layers(context: EvaluationContext, model: str) -> tuple[Layer, ...]:
    """The outputs of a model, with that under WCCN where there is one."""
    wccn = ("wccn",) if model == "trained" and context.wccn is not None else ()
    return tuple(dict.fromkeys([*context.layers_of(model), *wccn]))


def _same_class(context: EvaluationContext) -> list[Figure]:
    """Retrieval of images of the same class among the test images; nothing without two classes."""
    if not context.several_classes():
        return []
    chosen = permutation(context.count("test"), VIEW_SEED, 0)[:CLASS_IMAGES]
    labels = context.labels("test")[chosen]
    figures: list[Figure] = []
    for model in context.models:
        features = context.centre(model, "test")
        for layer in _layers(context, model):
            x = context.run.select(features, layer)
            figures += _figures((model, layer), class_retrieval(x[chosen], labels), "class")
    return figures


def _figures(key: tuple[str, str], found: dict[str, Estimate], variant: str) -> list[Figure]:
    return [Figure(*key, metric, estimate, variant=variant) for metric, estimate in found.items()]


def needs(context: EvaluationContext) -> list[Need]:
    looks = [f"{model}/views" for model in context.models]
    if context.splits.labelled:
        looks += [f"{model}/centre" for model in context.models]
    found = [Need("test", look) for look in looks]
    if context.baselines and context.splits.textures:
        found += [Need("test", "descriptor"), Need("described", "descriptor")]
    return found


RETRIEVAL = Task(
    "retrieval",
    "whether an image's other view is found among a hundred, and with labels images of its class",
    run,
    needs,
    [
        Layout(
            "The other view of an image among {targets[batch]}, % [95 %]; {targets[queries]:,} test images; "
            "{views_said}",
            only=lambda f: f.variant == "targets" or (f.variant, f.metric) == ("all", "recall@1"),
            percent=SHARES,
            words={**_RECALLS, "targets": "", "recall@1/all": "R@1 of {all[candidates_per_query]}"},
        ),
        Layout(
            "Images of the same class among {class_images:,} test images, % [95 %]; {seen}",
            columns=("metric",),
            only=lambda f: f.variant == "class",
            percent=SHARES,
            words=_RECALLS,
        ),
    ],
    quick=lambda context: context.splits.textures or not context.splits.labelled,
)
