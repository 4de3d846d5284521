"""Several points of one training in the order of figures that need no labels."""

from isosphere.errors import UsageError, option
from isosphere.evaluation import (
    HIGHER_IS_BETTER,
    Estimate,
    Figure,
    TaskResult,
    knn_predict,
    ranks,
    spearman,
    wilson,
)
from isosphere.workflows._context import EvaluationContext, Need
from isosphere.workflows.tasks._base import Task, measured_rows, views_protocol
from isosphere.workflows.tasks.geometry import LEAST
from isosphere.workflows.tasks.knn import NEIGHBOURS, TEMPERATURE
from isosphere.workflows.tasks.retrieval import BATCH
from isosphere.workflows.tasks.unlabelled import LAYERS, measures

__all__ = ["CHECKPOINTS"]


def run(context: EvaluationContext) -> TaskResult:
    """The weights kept by ``train.keep_every``: the measures of ``unlabelled`` of each, and with labels its k-NN
    accuracy and how far each measure's order follows it (Spearman).
    """
    epochs = context.run.folder.kept_epochs()
    labelled = context.splits.labelled
    figures: list[Figure] = []
    for epoch in epochs:
        model = f"epoch-{epoch}"
        context.plan(
            [
                Need("test", f"{model}/centre"),
                Need("test", f"{model}/views"),
                Need("train", f"{model}/centre"),
            ]
            if labelled
            else [Need("test", f"{model}/centre"), Need("test", f"{model}/views")]
        )
        figures += measures(context, model)
        if labelled:
            figures.append(Figure(model, "backbone", "accuracy", _accuracy(context, model)))
        context.forget(model)
    count = len(measured_rows(context))
    return TaskResult(
        "checkpoints",
        (*figures, *(_agreement(figures) if labelled else [])),
        {
            **views_protocol(context),
            "images": count,
            "train_images": context.count("train") if labelled else None,
            "epochs": epochs,
            "batch": min(BATCH, count),
            "k": NEIGHBOURS,
            "temperature": TEMPERATURE,
            "spearman": "places by the figure (best first) against k-NN accuracy of the backbone; interval of "
            "independent pairs, which checkpoints of one run are not",
        },
    )


def _accuracy(context: EvaluationContext, model: str) -> Estimate:
    train, test = (context.centre(model, part).backbone for part in ("train", "test"))
    test_y = context.labels("test")
    known = test_y >= 0
    said = knn_predict(train, context.labels("train"), test, k=NEIGHBOURS, temperature=TEMPERATURE).cpu()
    return wilson(float((said == test_y)[known].sum()), int(known.sum()))


def _agreement(figures: list[Figure]) -> list[Figure]:
    """Correlation of each measure's order of the checkpoints with that by accuracy."""
    accuracy = [f.value for f in figures if f.metric == "accuracy"]
    found = []
    for layer in LAYERS:
        for metric, higher in HIGHER_IS_BETTER.items():
            values = [f.value for f in figures if (f.layer, f.metric) == (layer, metric)]
            rho = spearman([-place for place in ranks(values, higher=higher)], accuracy)
            estimate = Estimate(rho.value, rho.low, rho.high)
            found.append(Figure("", layer, "spearman", estimate, variant=metric))
    return found


def check(context: EvaluationContext) -> None:
    epochs = context.run.folder.kept_epochs()
    if len(epochs) < 2:
        raise UsageError(
            f"the task checkpoints needs the weights of 2 epochs or more, and the run has kept {len(epochs)}: train "
            f"with {option('train.keep_every', 1)}, or leave the task out."
        )


CHECKPOINTS = Task(
    "checkpoints",
    "several points of one training in the order of figures that need no labels",
    run,
    lambda context: [],
    [],
    least=LEAST,
    check=check,
)
