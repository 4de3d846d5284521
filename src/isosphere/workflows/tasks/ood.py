"""Whether the encoder tells images of other sets from unseen ones of its own; out-of-distribution is positive."""

from isosphere.deploy import Layer
from isosphere.errors import UsageError, option, wording
from isosphere.evaluation import SCORES, Estimate, Figure, TaskResult, detection, ood_scores
from isosphere.report import Layout
from isosphere.workflows._context import EvaluationContext, Need
from isosphere.workflows.tasks._base import Task, common_protocol

__all__ = ["OOD"]

NEIGHBOUR, SHRINKAGE = 50, 1e-3
_WORDS = {
    "auroc": "AUROC",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr@95": "FPR at 95 % TPR",
    "knn": "distance to {neighbour}th neighbour",
    "mahalanobis": "Mahalanobis distance",
    "class-cosine": "cosine to nearest class mean",
    "norm": "short features",
    "variance": "variance of the posterior",
}


def run(context: EvaluationContext) -> TaskResult:
    """AUROC, AUPR and FPR at 95 % TPR against each OOD set of four distances and of the method's own scores."""
    labels = context.labels("train") if context.splits.labelled else None
    figures: list[Figure] = []
    own = context.scores("test")
    for name in context.ood:

        def note(key: tuple[str, str], score: str, found: dict[str, Estimate], name: str = name) -> None:
            figures.extend(Figure(*key, metric, x, name, score) for metric, x in found.items())

        for model, layer in _candidates(context):
            train, inside, outside = (
                context.run.select(context.centre(model, part), layer) for part in ("train", "test", name)
            )
            mine, theirs = (
                ood_scores(train, x, train_y=labels, k=NEIGHBOUR, shrinkage=SHRINKAGE)
                for x in (inside, outside)
            )
            for score in SCORES:
                note((model, layer), score, detection(mine[score], theirs[score]))
        outside_own = context.scores(name)
        for score in own:
            note(("trained", "method"), score, detection(-own[score], -outside_own[score]))
    return TaskResult(
        "ood",
        tuple(figures),
        {
            **common_protocol(context),
            "positive": "out of distribution",
            "sets": {name: source.name for name, source in context.ood.items()},
            "images": {name: context.count(name) for name in context.ood},
            "train_images": context.count("train"),
            "test_images": context.count("test"),
            "neighbour": NEIGHBOUR,
            "shrinkage": SHRINKAGE,
            "classes": labels is not None,
            "own_scores": list(own),
        },
    )


def _candidates(context: EvaluationContext) -> list[tuple[str, Layer]]:
    found: list[tuple[str, Layer]] = [("trained", layer) for layer in context.layers]
    return found + [(model, "backbone") for model in context.models if model != "trained"]


def needs(context: EvaluationContext) -> list[Need]:
    found = [
        Need(part, f"{model}/centre") for part in ("train", "test", *context.ood) for model in context.models
    ]
    if context.has_scores:
        found += [Need(part, "trained/scores") for part in ("test", *context.ood)]
    return found


def check(context: EvaluationContext) -> None:
    if not context.ood:
        how = wording(
            shell=f"add {option('ood', 'DATA')}, once for each set",
            python='give ood="DATA" or images at hand, several sets in a list',
        )
        raise UsageError(f"the task ood needs images of another kind: {how}.")


OOD = Task(
    "ood",
    "whether images of another kind are told from unseen ones of this",
    run,
    needs,
    [
        Layout(
            "{each} ({foreign:,} images) against the {test_images:,} test images, % [95 %]",
            rows=("model", "layer", "variant"),
            columns=("metric",),
            each=("subset",),
            percent=frozenset({"auroc", "aupr_out", "aupr_in", "fpr@95"}),
            lower=frozenset({"fpr@95"}),
            words=_WORDS,
            corner="encoder, score",
        )
    ],
    quick=lambda context: bool(context.ood),
    check=check,
)
