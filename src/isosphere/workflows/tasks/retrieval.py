"""Finding the other view of an image within batches of 100, and with labels images of the same class among all."""

from torch import Tensor

from isosphere.evaluation import (
    Estimate,
    Figure,
    TaskResult,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
    standardised,
)
from isosphere.report import Layout
from isosphere.workflows._context import EvaluationContext, Need
from isosphere.workflows.tasks._base import SHARES, Task, verdict, views_protocol
from isosphere.workflows.tasks._same_class import CLASS_IMAGES, RECALLS, TABLE, same_class, shown_layers

__all__ = ["BATCH", "EASY", "RETRIEVAL"]

BATCH = 100
"""Images among which the other view is sought."""
EASY = "Nearly all views are found: this question is too easy to tell these features apart"
FULL = 0.98
"""Recall@1 from which on nothing is left to be better at."""


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
    by_class, _ = same_class(context)
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
        hint=too_easy(first_hits),
        headline=f"Two-view Recall@1 among {batch} images is {100 * float(ours.mean()):.1f} %",
    )


def too_easy(first_hits: dict[tuple[str, str], Tensor]) -> str:
    """A sentence where nearly every view is found by more than one row, so that nothing is told by them."""
    full = [key for key, hits in first_hits.items() if float(hits.mean()) >= FULL]
    compared = {model for model, _ in full} | ({"frozen"} if ("trained", "adapted") in full else set())
    if len(full) < 2 or len(compared) < 2:
        return ""
    return f"{EASY}. Images in folders of their classes, a few of each, tell more; so does a look at neighbours.png."


def _candidates(context: EvaluationContext) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    found: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
    for model in context.models:
        first, second = context.views(model)
        for layer in shown_layers(context, model):
            found[model, layer] = context.run.select(first, layer), context.run.select(second, layer)
    if context.baselines and context.splits.textures:
        learned = context.rows("described", "descriptor")["0"]
        both = context.rows("test", "descriptor")
        _, queries, targets = standardised(learned, both["0"], both["1"], shrinkage=0.5)
        found["descriptor", ""] = queries, targets
    return found


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
            words={**RECALLS, "targets": "", "recall@1/all": "R@1 of {all[candidates_per_query]}"},
        ),
        TABLE,
    ],
    quick=lambda context: context.splits.textures or not context.splits.labelled,
)
