"""Figures by which runs can be ranked without labels."""

import torch

from isosphere.evaluation import Estimate, Figure, TaskResult, unlabelled
from isosphere.report import MEASURES, Layout, measure_words
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows.tasks._base import Task, measured_rows, views_protocol
from isosphere.workflows.tasks.geometry import LEAST, needs
from isosphere.workflows.tasks.retrieval import BATCH

__all__ = ["LAYERS", "UNLABELLED", "measures"]

LAYERS = ("head", "backbone")


def run(context: EvaluationContext) -> TaskResult:
    """Two-view retrieval, RankMe, LiDAR, uniformity, alignment of head and backbone."""
    count = len(measured_rows(context))
    figures = [figure for model in context.models for figure in measures(context, model)]
    features, layers = context.centre("trained", "test"), context.layers_of("trained")
    return TaskResult(
        "unlabelled",
        tuple(figures),
        {
            **views_protocol(context),
            "images": count,
            **({"drawn_from": f"{context.count('test'):,}"} if count < context.count("test") else {}),
            "batch": min(BATCH, count),
            "dimensions": {layer: context.run.select(features, layer).shape[1] for layer in layers},
            "uniformity_t": 2.0,
        },
    )


def measures(context: EvaluationContext, model: str) -> list[Figure]:
    """The five measures of a model's outputs on the test images."""
    rows = measured_rows(context)
    batch = min(BATCH, len(rows))
    figures = []
    for layer in context.layers_of(model):
        z = context.run.select(context.centre(model, "test"), layer)[rows]
        pair = torch.stack([context.run.select(view, layer)[rows] for view in context.views(model)])
        found: dict[str, Estimate] = unlabelled(z, pair, batch=batch)
        figures += [Figure(model, layer, metric, estimate) for metric, estimate in found.items()]
    return figures


UNLABELLED = Task(
    "unlabelled",
    "figures by which runs are ranked without labels",
    run,
    needs,
    [
        Layout(
            "Without labels [95 %]; {images:,} test images (drawn from {drawn_from}); {views_said}",
            rows=("metric",),
            columns=("model", "layer"),
            percent=frozenset({"recall@1"}),
            lower=frozenset({"uniformity", "alignment"}),
            words={measure: measure_words(measure) for measure in MEASURES},
            corner="without labels",
        )
    ],
    least=LEAST,
)
