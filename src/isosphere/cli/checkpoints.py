"""The task ``checkpoints``: several points of one training in the order of figures that need no labels."""

import math

import torch

from isosphere.cli.accuracy import NEIGHBOURS, TEMPERATURE
from isosphere.cli.exam import VIEW_SEED, Exam
from isosphere.cli.judgement import Judgement, Section
from isosphere.cli.unlabelled import BATCH, LEAST
from isosphere.errors import UsageError
from isosphere.evaluation import Correlation, Estimate, knn_predict, spearman, unlabelled, wilson
from isosphere.evaluation.unlabelled import HIGHER_IS_BETTER, ranks

__all__ = ["judge_checkpoints"]

_LAYERS = ("head", "backbone")
_WORDS = {"recall@1": "R@1, %", "rankme": "RankMe", "lidar": "LiDAR"}


def judge_checkpoints(exam: Exam) -> Judgement:
    """The weights kept by ``train.keep_every``: two-view retrieval, RankMe, LiDAR, uniformity and alignment of each,
    and with labels its k-NN accuracy and how far each figure's order follows it (Spearman).
    """
    epochs = exam.run.folder.kept_epochs()
    if len(epochs) < 2:
        raise UsageError(
            f"the task checkpoints needs the weights of 2 epochs or more, and the run has kept {len(epochs)}: "
            "train with --set train.keep_every=1, or leave the task out."
        )
    count = len(exam.test)
    if count < LEAST:
        raise UsageError(
            f"the task checkpoints needs at least {LEAST} test images, and there are {count}: leave it out."
        )
    figures: dict[str, Estimate] = {}
    for epoch in epochs:
        who = f"epoch-{epoch}"
        for layer in _LAYERS:
            z = getattr(exam.centre(who, "test"), layer)
            pair = torch.stack([getattr(view, layer) for view in exam.views(who)])
            made = unlabelled(z, pair, batch=min(BATCH, count))
            figures |= {f"{who}/{layer}/{name}": value for name, value in made.items()}
        if exam.sets.labelled:
            figures[f"{who}/knn"] = _accuracy(exam, who)
        exam.forget(who)
    columns = {key: [figures[f"epoch-{e}/{key}"].value for e in epochs] for key in _keys()}
    accuracy = [figures[f"epoch-{e}/knn"].value for e in epochs] if exam.sets.labelled else []
    rows, agreement = _agreement(epochs, columns, accuracy)
    labelled = ["k-NN, %"] if accuracy else []
    tables = [
        Section(
            f"Checkpoints, {layer}; {count:,} test images; in brackets the place",
            ["epoch", *(_heading(name) for name in HIGHER_IS_BETTER), *labelled],
            _rows(epochs, {name: columns[f"{layer}/{name}"] for name in HIGHER_IS_BETTER}, accuracy),
        )
        for layer in _LAYERS
    ]
    words = ["chooses epoch", *(["its k-NN, %", "points lost", "rho [95 %]", "p"] if accuracy else [])]
    tables.append(
        Section(f"What each figure chooses among {len(epochs)} checkpoints", ["figure", *words], rows)
    )
    return Judgement.of(
        tables,
        figures=figures | agreement,
        protocol={
            "images": count,
            "train_images": len(exam.train) if accuracy else None,
            "epochs": epochs,
            "batch": min(BATCH, count),
            "k": NEIGHBOURS,
            "temperature": TEMPERATURE,
            "image_size": exam.size,
            "views": exam.run.config.views.model_dump(mode="json"),
            "view_seed": VIEW_SEED,
            "division": exam.sets.division,
            "rho": "Spearman, places by the figure (best first) against k-NN accuracy of the backbone; interval of "
            "independent pairs, which checkpoints of one run are not",
        },
    )


def _accuracy(exam: Exam, who: str) -> Estimate:
    train_y, test_y = torch.as_tensor(exam.train.labels), torch.as_tensor(exam.test.labels)
    train, test = (exam.centre(who, part).backbone for part in ("train", "test"))
    known = test_y >= 0
    said = knn_predict(train, train_y, test, k=NEIGHBOURS, temperature=TEMPERATURE).cpu()
    return wilson(float((said == test_y)[known].sum()), int(known.sum()))


def _keys() -> list[str]:
    return [f"{layer}/{name}" for layer in _LAYERS for name in HIGHER_IS_BETTER]


def _rows(epochs: list[int], columns: dict[str, list[float]], accuracy: list[float]) -> list[list[str]]:
    places = {name: ranks(values, higher=HIGHER_IS_BETTER[name]) for name, values in columns.items()}
    places["knn"] = ranks(accuracy) if accuracy else []
    shown = {**columns, **({"knn": accuracy} if accuracy else {})}
    return [
        [str(epoch), *(f"{_figure(name, values[i])} ({places[name][i]:g})" for name, values in shown.items())]
        for i, epoch in enumerate(epochs)
    ]


def _agreement(
    epochs: list[int], columns: dict[str, list[float]], accuracy: list[float]
) -> tuple[list[list[str]], dict[str, Estimate]]:
    """Per figure the epoch that it puts first and, with labels, what that costs, and the correlation of orders."""
    rows, figures = [], {}
    for key, values in columns.items():
        layer, name = key.split("/")
        places = ranks(values, higher=HIGHER_IS_BETTER[name])
        best = min((p, i) for i, p in enumerate(places) if not math.isnan(p))[1]
        row = [f"{_heading(name).removesuffix(', %')}, {layer}", str(epochs[best])]
        if accuracy:
            found = spearman([-p for p in places], accuracy)
            figures[f"rho/{key}"] = Estimate(found.value, found.low, found.high)
            row += [f"{100 * accuracy[best]:.1f}", f"{100 * (max(accuracy) - accuracy[best]):.1f}"]
            row += [_rho(found), "" if math.isnan(found.pvalue) else f"{found.pvalue:.2g}"]
        rows.append(row)
    return rows, figures


def _rho(found: Correlation) -> str:
    if math.isnan(found.value):
        return "undefined"
    return f"{found.value + 0.0:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _heading(name: str) -> str:
    return _WORDS.get(name, name)


def _figure(name: str, value: float) -> str:
    if name in ("recall@1", "knn"):
        return f"{100 * value:.1f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
