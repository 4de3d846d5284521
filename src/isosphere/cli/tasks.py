"""The tasks of ``isosphere evaluate``: what is measured, beside what, and what it means in a sentence."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from isosphere.cli.exam import VIEW_SEED, Exam
from isosphere.discrepancies import build_discrepancy
from isosphere.errors import UsageError
from isosphere.evaluation import (
    Estimate,
    geometry,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
    knn_predict,
    paired_difference,
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
    standardised,
    wilson,
)
from isosphere.training.monitor import COLLAPSED

__all__ = ["TASKS", "Judgement", "default_tasks"]

BATCH = 100
NEIGHBOURS, TEMPERATURE = 20, 0.07
PIXEL_SIDE, PRINCIPAL = 32, 256
DESCRIBED = 2000
"""Training images by which the descriptor is brought to a common scale."""


@dataclass(frozen=True)
class Judgement:
    """One task: its table, its entry in evaluation.json, and whether the encoder has earned its training.

    ``gain`` is the difference on the task's first figure to the best of the others, with its interval, and
    ``rival`` who that is; None for a task that has no winner.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, Estimate]
    protocol: dict[str, Any]
    gain: Estimate | None = None
    rival: str = ""
    headline: str = ""
    remark: str = ""
    winner: Any = field(default=None, repr=False)

    def entry(self) -> dict[str, Any]:
        """The task as evaluation.json keeps it; what is not a number is null."""
        numbers = {
            name: {k: v if math.isfinite(v) else None for k, v in estimate.as_dict().items()}
            for name, estimate in self.figures.items()
        }
        return {**numbers, "protocol": self.protocol}


def default_tasks(exam: Exam) -> list[str]:
    """k-NN where there are labels, the retrieval of views where there are none or the images are textures."""
    tasks = ["knn"] if exam.sets.labelled else []
    if not tasks or exam.sets.texture:
        tasks.append("retrieval")
    return [*tasks, "geometry"]


def judge_knn(exam: Exam) -> Judgement:
    """Accuracy of 20 nearest neighbours by cosine, beside pixels, whitened pixels, the untrained encoder."""
    if not exam.sets.labelled:
        raise UsageError(
            "the task knn needs labels, that is, a folder for each class, and there are none: leave --tasks "
            "out, or type "
            "--tasks retrieval,geometry."
        )
    train_y, test_y = torch.as_tensor(exam.train.labels), torch.as_tensor(exam.test.labels)
    known = test_y >= 0
    contenders: dict[str, tuple[str, Callable[[], tuple[Tensor, Tensor]]]] = {
        "trained/backbone": ("trained encoder", lambda: _pair(exam, "trained", "backbone")),
        "trained/head": ("its head", lambda: _pair(exam, "trained", "head")),
        "untrained/backbone": (
            f"{exam.untrained_name} encoder",
            lambda: _pair(exam, "untrained", "backbone"),
        ),
        "pixels": ("raw pixels", lambda: _pixels(exam)),
        "pca": ("PCA-whitened pixels", lambda: _whitened(exam)),
    }
    if "untrained" not in exam.methods:
        del contenders["untrained/backbone"]
    correct: dict[str, Tensor] = {}
    dims: dict[str, int] = {}
    figures: dict[str, Estimate] = {}
    for key, (_, features) in contenders.items():
        train_x, test_x = features()
        dims[key] = train_x.shape[1]
        predicted = knn_predict(train_x, train_y, test_x, k=NEIGHBOURS, temperature=TEMPERATURE)
        correct[key] = (predicted == test_y)[known].double()
        figures[key] = wilson(float(correct[key].sum()), int(known.sum()))
    rival = max((key for key in figures if not key.startswith("trained")), key=lambda key: figures[key].value)
    return Judgement(
        title=f"k-NN accuracy, % [95 %]; k = {NEIGHBOURS}, {int(known.sum()):,} test images",
        columns=["features", "accuracy"],
        rows=[[contenders[key][0], percent(estimate)] for key, estimate in figures.items()],
        figures=figures,
        protocol={
            "k": NEIGHBOURS,
            "temperature": TEMPERATURE,
            "train_images": len(exam.train),
            "test_images": int(known.sum()),
            "classes": len(exam.train.class_names),
            "division": exam.sets.division,
            "pixel_side": min(PIXEL_SIDE, exam.size),
            "principal_components": dims["pca"],
        },
        gain=paired_difference(correct["trained/backbone"], correct[rival]),
        rival=contenders[rival][0],
        headline=f"{100 * figures['trained/backbone'].value:.1f} % of the labels are right",
    )


def judge_retrieval(exam: Exam) -> Judgement:
    """Recall of the other view of an image within batches of 100, on head and backbone, with both sets of
    candidates.
    """
    count = len(exam.test)
    batch = min(BATCH, count)
    contenders: dict[str, tuple[str, tuple[Tensor, Tensor]]] = {}
    for who in exam.methods:
        first, second = exam.views(who)
        name = "trained" if who == "trained" else exam.untrained_name
        contenders[f"{who}/head"] = (f"{name}, head", (first.head, second.head))
        contenders[f"{who}/backbone"] = (f"{name}, backbone", (first.backbone, second.backbone))
    if exam.sets.texture:
        contenders["descriptor"] = ("fixed rotation-invariant descriptor", _descriptor(exam))
    figures: dict[str, Estimate] = {}
    rows, first_hits, tops = [], {}, (1, 3, 5) if batch >= 5 else (1,)
    for key, (name, (queries, targets)) in contenders.items():
        near = instance_retrieval(queries, targets, batch=batch, k=tops)
        wide = instance_retrieval(queries, targets, batch=batch, candidates="all", k=tops)
        figures |= {f"{key}/{metric}": value for metric, value in near.items()}
        figures |= {f"{key}/{metric}/all": value for metric, value in wide.items()}
        first_hits[key] = instance_ranks(queries, targets, batch=batch).recall(1)
        rows.append([name, *(percent(value) for value in near.values()), percent(wide["recall@1"])])
    ours = "trained/head"
    rival = max(
        (k for k in contenders if not k.startswith("trained")), key=lambda k: figures[f"{k}/recall@1"].value
    )
    return Judgement(
        title=f"The other view of an image among {batch}, % [95 %]; {count - count % batch:,} test images",
        columns=["features", *(f"R@{k}" for k in tops), "mAP", f"R@1 of {2 * batch - 1}"],
        rows=rows,
        figures=figures,
        protocol={
            "targets": instance_protocol(count, batch=batch),
            "all": instance_protocol(count, batch=batch, candidates="all"),
            "image_size": exam.size,
            "views": exam.run.config.views.model_dump(mode="json"),
            "view_seed": VIEW_SEED,
            "division": exam.sets.division,
        },
        gain=paired_difference(first_hits[ours], first_hits[rival]),
        rival=contenders[rival][0],
        headline=f"{100 * first_hits[ours].mean():.1f} % of views find the other one first among {batch}",
    )


def judge_geometry(exam: Exam) -> Judgement:
    """Spread, rank and distance from uniformity of the head's embeddings of test images."""
    if len(exam.test) < 20:
        raise UsageError(
            f"the task geometry needs at least 20 test images, and there are {len(exam.test)}: leave it out."
        )
    found: dict[str, dict[str, Estimate]] = {}
    for who in exam.methods:
        z = exam.centre(who, "test").head
        pair = torch.stack([features.head for features in exam.views(who)])
        tests = {
            name: build_discrepancy(name, z.shape[1], group=False) for name in ("mmd-heat", "mmd-bandlimited")
        }
        found[who] = geometry(z, views=pair, discrepancies=tests)
    dim = exam.centre("trained", "test").head.shape[1]
    most = min(len(exam.test) - 1, dim)
    names = {
        "mean_cosine": "mean cosine of different images (0 spread, 1 collapse)",
        "uniformity": "uniformity (0 collapse, -4 spread)",
        "alignment": "squared distance of two views (0 same, 2 unrelated)",
        "effective_rank": f"effective rank (at most {most})",
        "top_eigenvalue_share": "largest eigenvalue's share",
        "zscore/mmd-heat": "MMD, heat kernel: z-score",
        "zscore/mmd-bandlimited": "MMD, degrees 1 and 2: z-score",
    }
    rows = [[words, *(number(found[who][key]) for who in found)] for key, words in names.items()]
    cosine = found["trained"]["mean_cosine"].value
    remark = (
        f"Different images have nearly the same embedding (mean cosine {cosine:.3f}): the encoder has "
        "collapsed, or "
        "has hardly been trained."
        if cosine > COLLAPSED
        else ""
    )
    return Judgement(
        title=f"Geometry of the embeddings of {len(exam.test):,} test images [95 %]",
        columns=["head", *("trained" if who == "trained" else exam.untrained_name for who in found)],
        rows=rows,
        figures={f"{who}/{name}": value for who, all_ in found.items() for name, value in all_.items()},
        protocol={
            "images": len(exam.test),
            "dimension": dim,
            "view_seed": VIEW_SEED,
        },
        remark=remark,
    )


TASKS: dict[str, Callable[[Exam], Judgement]] = {
    "knn": judge_knn,
    "retrieval": judge_retrieval,
    "geometry": judge_geometry,
}
"""Tasks by name; each says in its docstring what it measures."""


def percent(estimate: Estimate) -> str:
    """A share as a percentage with its interval."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def number(estimate: Estimate) -> str:
    """A figure with its interval, in three digits."""
    if not math.isfinite(estimate.value):
        return "undefined"
    digits = 0 if abs(estimate.value) >= 1000 else 1 if abs(estimate.value) >= 10 else 3
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _pair(exam: Exam, who: str, layer: str) -> tuple[Tensor, Tensor]:
    return getattr(exam.centre(who, "train"), layer), getattr(exam.centre(who, "test"), layer)


def _pixels(exam: Exam) -> tuple[Tensor, Tensor]:
    side = min(PIXEL_SIDE, exam.size)
    return pixels(exam.train.images, size=side), pixels(exam.test.images, size=side)


def _whitened(exam: Exam) -> tuple[Tensor, Tensor]:
    """Half as many components as long as the training pixels do not vary in so many directions."""
    train, test = _pixels(exam)
    dim = min(PRINCIPAL, len(train) - 1, train.shape[1])
    while True:
        try:
            return pca_whitened(train, test, dim)
        except ValueError:
            if dim == 1:  # all training images are the same: nothing can be whitened
                return torch.zeros(len(train), 1), torch.zeros(len(test), 1)
            dim //= 2


def _descriptor(exam: Exam) -> tuple[Tensor, Tensor]:
    """Descriptors of the two views of test images, at the scale of those of training images."""
    learned = rotation_invariant_descriptor(exam.pictures("train", DESCRIBED)[0])
    first, second = (rotation_invariant_descriptor(view) for view in exam.pictures("test"))
    _, queries, targets = standardised(learned, first, second, shrinkage=0.5)
    return queries, targets
