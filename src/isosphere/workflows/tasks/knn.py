"""Accuracy of the nearest neighbours by cosine."""

from dataclasses import replace

from torch import Tensor

from isosphere.errors import option, plural
from isosphere.evaluation import WHITENING, TaskResult, knn_predict
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows.tasks._accuracy import Candidate, accuracy_layouts, compare, needs, other_metrics
from isosphere.workflows.tasks._base import Task
from isosphere.workflows.tasks._same_class import CLASS_IMAGES, TABLE, ranked_higher, same_class

__all__ = ["KNN", "NEIGHBOURS", "TEMPERATURE"]

NEIGHBOURS, TEMPERATURE = 20, 0.07


def run(context: EvaluationContext) -> TaskResult:
    """Features as they are, whitened and under WCCN; beside pixels and the untrained encoder."""

    def predict(candidate: Candidate, train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        return knn_predict(train_x, train_y, test_x, k=NEIGHBOURS, temperature=TEMPERATURE)

    protocol = {"k": NEIGHBOURS, "temperature": TEMPERATURE, "whitened_shrinkage": WHITENING}
    found = compare(context, "knn", {"": predict}, protocol, also=other_metrics(context))
    hints = [found.hint, _outvoted(context)]
    if context.run.frozen:  # what adapting is for: votes hardly move
        figures, precisions = same_class(context)
        among = {"class_images": min(context.count("test"), CLASS_IMAGES)} if figures else {}
        found = replace(found, figures=(*found.figures, *figures), protocol={**found.protocol, **among})
        hints.append(ranked_higher(precisions))
    return replace(found, hint=" ".join(filter(None, hints)))


def _outvoted(context: EvaluationContext) -> str:
    """A sentence where a class has fewer training images than neighbours are asked; else nothing."""
    labels = context.labels("train")
    counts = labels[labels >= 0].bincount()
    seen = counts[counts > 0]
    if not len(seen) or int(seen.min()) >= NEIGHBOURS:
        return ""
    smallest = int((counts == seen.min()).nonzero()[0])
    return (
        f"k-NN asks {NEIGHBOURS} neighbours, and {context.splits.train.class_names[smallest]} has "
        f"{plural(int(seen.min()), 'training image')}: others may outvote them, however good the encoder. More "
        f"images of small classes tell more, or {option('tasks', 'linear')}."
    )


KNN = Task(
    "knn",
    "accuracy of the 20 nearest neighbours",
    run,
    needs,
    [*accuracy_layouts("k-NN {measure}, % [95 %]; k = {{k}}"), TABLE],
    needs_labels=True,
    quick=lambda context: context.splits.labelled,
)
