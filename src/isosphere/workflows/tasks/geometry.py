"""Spread, rank, distance from uniformity and structure of classes of the head's embeddings of test images."""

from typing import Any

import torch

from isosphere.discrepancies import build_discrepancy
from isosphere.evaluation import (
    LOCAL_NEIGHBOURS,
    STRUCTURE_ROWS,
    Estimate,
    Figure,
    TaskResult,
    class_structure,
    geometry,
    hub_neighbours,
)
from isosphere.report import Layout
from isosphere.statistics import COLLAPSED
from isosphere.workflows._context import EvaluationContext, Need
from isosphere.workflows.tasks._base import Task, measured_rows, views_protocol

__all__ = ["GEOMETRY", "LEAST"]

LEAST = 20
"""Test images from which the intervals mean anything."""

_WORDS = {
    "mean_cosine": "mean cosine of different images (0 spread, 1 collapsed)",
    "uniformity": "uniformity (-4 spread, 0 collapsed)",
    "alignment": "squared distance of two views (0 the same, 2 unrelated)",
    "effective_rank": "effective rank: directions in use (at most {most})",
    "top_eigenvalue_share": "share of variance in the largest direction",
    "local_dimension": "dimension around each image ({local_dimension_neighbours} neighbours)",
    "hub_skewness": "hubness: skewness of the times among others' {hub_neighbours} nearest (0 none)",
    "antihubs": "antihubs: share of images among nobody's {hub_neighbours} nearest",
    "off_centre": "neighbours to one side (0 all around, 1 one side)",
    "anisotropy": "neighbours along few directions (1 in all alike, more: few)",
    "lidar": "LiDAR: directions that tell images apart (at most {most})",
    "zscore/mmd-heat": "z-score from uniform, MMD, heat kernel (within 2: uniform)",
    "zscore/mmd-bandlimited": "z-score from uniform, MMD, degrees 1 and 2 (within 2: uniform)",
    "fisher_ratio": "variance between classes / within (more: classes apart)",
    "class_angle": "mean angle between class means, degrees",
    "class_angle_min": "smallest angle between class means, degrees",
    "silhouette": "silhouette of the classes (-1 mixed, 1 apart)",
    "kmeans_nmi": "k-means clusters against classes, NMI (0 unrelated, 1 the same)",
}


def run(context: EvaluationContext) -> TaskResult:
    rows = measured_rows(context)
    labels = context.labels("test")[rows]
    labelled = int((labels >= 0).sum())
    structured = context.several_classes() and labelled >= LEAST
    figures: list[Figure] = []
    dim, cosine = 0, 0.0
    for model in context.models:
        layer = context.layers_of(model)[0]
        z = context.run.select(context.centre(model, "test"), layer)[rows]
        pair = torch.stack([context.run.select(seen, layer)[rows] for seen in context.views(model)])
        tests = {
            name: build_discrepancy(name, z.shape[1], group=False) for name in ("mmd-heat", "mmd-bandlimited")
        }
        found = geometry(z, views=pair, discrepancies=tests)
        if structured:
            found |= class_structure(z, labels)
        figures += [_figure(model, layer, name, estimate) for name, estimate in found.items()]
        if model == "trained":
            dim, cosine = z.shape[1], found["mean_cosine"].value
    protocol: dict[str, Any] = {
        **views_protocol(context),
        "images": len(labels),
        **({"drawn_from": f"{context.count('test'):,}"} if len(rows) < context.count("test") else {}),
        "dimension": dim,
        "most": min(len(labels) - 1, dim),
        "layer": context.spread,
        "uniformity_t": 2.0,
        "local_dimension_neighbours": min(LOCAL_NEIGHBOURS, len(rows) - 1),
        "hub_neighbours": hub_neighbours(len(rows)),
    }
    if structured:
        protocol |= {
            "structure_images": labelled,
            "silhouette_and_nmi_images": min(labelled, STRUCTURE_ROWS),
            "structure_seed": 0,
        }
    remark = (
        f"The mean cosine of different images is {cosine:.3f}: their embeddings are nearly the same. The encoder has "
        "collapsed, or has hardly been trained."
        if cosine > COLLAPSED
        else ""
    )
    return TaskResult("geometry", tuple(figures), protocol, remark=remark)


def _figure(model: str, layer: str, name: str, estimate: Estimate) -> Figure:
    metric, _, variant = name.partition("/")
    return Figure(model, layer, metric, estimate, variant=variant)


def needs(context: EvaluationContext) -> list[Need]:
    return [Need("test", f"{model}/{kind}") for model in context.models for kind in ("centre", "views")]


GEOMETRY = Task(
    "geometry",
    "how the embeddings lie on the sphere",
    run,
    needs,
    [
        Layout(
            "Geometry of the embeddings of {images:,} test images (drawn from {drawn_from}) [95 %]; "
            "{views_said}; {seen}",
            rows=("metric", "variant"),
            columns=("model",),
            only=lambda f: (f"{f.metric}/{f.variant}" if f.variant else f.metric) in _WORDS,
            words=_WORDS,
            corner="{layer}",
        )
    ],
    least=LEAST,
    quick=lambda context: True,
)
