"""Images of the same class among all: what ``retrieval`` tells, and ``knn`` of a network that was not trained here."""

from torch import Tensor

from isosphere.data import permutation
from isosphere.deploy import Layer
from isosphere.evaluation import Figure, class_outcomes, paired_difference
from isosphere.report import Layout
from isosphere.workflows._context import VIEW_SEED, EvaluationContext
from isosphere.workflows.tasks._base import SHARES, points

CLASS_IMAGES = 5000
"""Test images among which those of the same class are sought: the time grows with the square."""
VARIANT = "class"
RECALLS = {"map": "mAP", **{name: name.replace("recall", "R") for name in SHARES if "@" in name}}
TABLE = Layout(
    "Images of the same class among {class_images:,} test images, % [95 %]; {seen}",
    columns=("metric",),
    only=lambda f: f.variant == VARIANT,
    percent=SHARES,
    words=RECALLS,
)


def same_class(context: EvaluationContext) -> tuple[list[Figure], dict[tuple[str, str], Tensor]]:
    """Figures of every model and layer, and the average precision of each query; nothing without two classes."""
    if not context.several_classes():
        return [], {}
    chosen = permutation(context.count("test"), VIEW_SEED, 0)[:CLASS_IMAGES]
    labels = context.labels("test")[chosen]
    figures: list[Figure] = []
    precisions: dict[tuple[str, str], Tensor] = {}
    for model in context.models:
        features = context.centre(model, "test")
        for layer in shown_layers(context, model):
            found = class_outcomes(context.run.select(features, layer)[chosen], labels)
            figures += [
                Figure(model, layer, name, x, variant=VARIANT) for name, x in found.estimates().items()
            ]
            precisions[model, layer] = found.average_precision
    return figures, precisions


def shown_layers(context: EvaluationContext, model: str) -> tuple[Layer, ...]:
    """The outputs of a model, with that under WCCN where there is one."""
    wccn = ("wccn",) if model == "trained" and context.wccn is not None else ()
    return tuple(dict.fromkeys([*context.layers_of(model), *wccn]))


def ranked_higher(precisions: dict[tuple[str, str], Tensor]) -> str:
    """A sentence on whether adapted features rank images of the same class higher; empty where it cannot be told."""
    if not {("trained", "adapted"), ("trained", "backbone")} <= precisions.keys():
        return ""
    adapted, frozen = precisions["trained", "adapted"], precisions["trained", "backbone"]
    gain = paired_difference(adapted, frozen)
    if gain.low <= 0 <= gain.high:
        return ""
    way = "higher" if gain.low > 0 else "lower"
    return (
        f"The adaptation ranks images of the same class {way}: mAP {100 * float(adapted.mean()):.1f} %, "
        f"{100 * float(frozen.mean()):.1f} % before ({points(gain, signed=True)})."
    )
