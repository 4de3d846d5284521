"""The tasks of ``isosphere evaluate``: what is measured, beside what, and what it means in a sentence."""

from collections.abc import Callable

import torch
from torch import Tensor

from isosphere.cli.accuracy import judge_knn, judge_linear, judge_ridge
from isosphere.cli.checkpoints import judge_checkpoints
from isosphere.cli.exam import VIEW_SEED, Exam
from isosphere.cli.judgement import Judgement, Section, number, percent
from isosphere.cli.novelty import judge_ood
from isosphere.cli.unlabelled import judge_unlabelled
from isosphere.data import permutation
from isosphere.discrepancies import build_discrepancy
from isosphere.errors import UsageError
from isosphere.evaluation import (
    Estimate,
    class_retrieval,
    class_structure,
    geometry,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
    paired_difference,
    rotation_invariant_descriptor,
    standardised,
)
from isosphere.evaluation.structure import STRUCTURE_ROWS
from isosphere.training.monitor import COLLAPSED

__all__ = ["TASKS", "Judgement", "default_tasks"]

BATCH = 100
DESCRIBED = 2000
"""Training images by which the descriptor is brought to a common scale."""
CLASS_IMAGES = 5000
"""Test images among which those of the same class are sought: the time grows with the square."""


def default_tasks(exam: Exam) -> list[str]:
    """k-NN where there are labels, the retrieval of views where there are none or the images are textures;
    novelty where there are foreign images.
    """
    tasks = ["knn"] if exam.sets.labelled else []
    if not tasks or exam.sets.texture:
        tasks.append("retrieval")
    if exam.outside:
        tasks.append("ood")
    return [*tasks, "geometry"]


def judge_retrieval(exam: Exam) -> Judgement:
    """Recall of the other view of an image within batches of 100, on head and backbone, with both sets of
    candidates; and with labels of images of the same class among all.
    """
    count = len(exam.test)
    batch = min(BATCH, count)
    contenders: dict[str, tuple[str, tuple[Tensor, Tensor]]] = {}
    for who in exam.methods:
        first, second = exam.views(who)
        name = "trained" if who == "trained" else exam.untrained_name
        contenders[f"{who}/head"] = (f"{name}, head", (first.head, second.head))
        contenders[f"{who}/backbone"] = (f"{name}, backbone", (first.backbone, second.backbone))
        if who == "trained" and exam.metric is not None:
            pair = exam.metric(first.backbone), exam.metric(second.backbone)
            contenders["trained/views"] = ("trained, by its views", pair)
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
    others = [key for key in contenders if not key.startswith("trained")]
    rival = max(others, key=lambda key: figures[f"{key}/recall@1"].value) if others else None
    by_class, section = _same_class(exam)
    figures |= by_class
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
            **({"class_images": min(len(exam.test), CLASS_IMAGES)} if by_class else {}),
        },
        more=section,
        gain=paired_difference(first_hits[ours], first_hits[rival]) if rival else None,
        rival=contenders[rival][0] if rival else "",
        headline=f"{100 * first_hits[ours].mean():.1f} % of views find the other one first among {batch}",
    )


def _same_class(exam: Exam) -> tuple[dict[str, Estimate], tuple[Section, ...]]:
    """Retrieval of images of the same class among the test images; nothing without two classes."""
    if not _classes(exam):
        return {}, ()
    chosen = permutation(len(exam.test), VIEW_SEED, 0)[:CLASS_IMAGES]
    labels = torch.as_tensor(exam.test.labels)[chosen]
    figures: dict[str, Estimate] = {}
    rows = []
    for who in exam.methods:
        name, features = "trained" if who == "trained" else exam.untrained_name, exam.centre(who, "test")
        layers = {"head": ("head", features.head), "backbone": ("backbone", features.backbone)}
        if who == "trained" and exam.metric is not None:
            layers["views"] = "by its views", exam.metric(features.backbone)
        for layer, (words, x) in layers.items():
            made = class_retrieval(x[chosen], labels)
            figures |= {f"{who}/{layer}/class/{metric}": value for metric, value in made.items()}
            rows.append([f"{name}, {words}", *(percent(value) for value in made.values())])
    title = f"Images of the same class among {len(chosen):,} test images, % [95 %]"
    return figures, (Section(title, ["features", "R@1", "R@5", "R@10", "mAP"], rows),)


def _classes(exam: Exam) -> bool:
    labels = torch.as_tensor(exam.test.labels)
    return exam.sets.labelled and len(labels[labels >= 0].unique()) > 1


def judge_geometry(exam: Exam) -> Judgement:
    """Spread, rank, distance from uniformity and structure of classes of the head's embeddings of test images."""
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
        if _classes(exam) and int((torch.as_tensor(exam.test.labels) >= 0).sum()) >= 20:
            found[who] |= class_structure(z, exam.test.labels)
    dim = exam.centre("trained", "test").head.shape[1]
    most = min(len(exam.test) - 1, dim)
    names = {
        "mean_cosine": "mean cosine of different images (0 spread, 1 collapse)",
        "uniformity": "uniformity (0 collapse, -4 spread)",
        "alignment": "squared distance of two views (0 same, 2 unrelated)",
        "effective_rank": f"effective rank (at most {most})",
        "top_eigenvalue_share": "largest eigenvalue's share",
        "local_dimension": "dimension around each image (20 neighbours)",
        "lidar": f"LiDAR: directions that tell images apart (at most {most})",
        "zscore/mmd-heat": "MMD, heat kernel: z-score",
        "zscore/mmd-bandlimited": "MMD, degrees 1 and 2: z-score",
        "fisher_ratio": "variance between classes over within",
        "class_angle": "angle between class means, degrees, mean",
        "class_angle_min": "... smallest",
        "silhouette": "silhouette of the classes (-1 to 1)",
        "kmeans_nmi": "k-means clusters and classes: NMI (0 to 1)",
    }
    rows = [
        [words, *(number(found[who][key]) for who in found)]
        for key, words in names.items()
        if key in found["trained"]
    ]
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
            "layer": "head",
            "view_seed": VIEW_SEED,
            "views": exam.run.config.views.model_dump(mode="json"),
            "image_size": exam.size,
            "division": exam.sets.division,
            "uniformity_t": 2.0,
            "local_dimension_neighbours": 20,
            **_structure_protocol(exam, "fisher_ratio" in found["trained"]),
        },
        remark=remark,
    )


def _structure_protocol(exam: Exam, measured: bool) -> dict[str, int]:
    """Of silhouette and clusters, which are those of a part of many images."""
    if not measured:
        return {}
    labelled = int((torch.as_tensor(exam.test.labels) >= 0).sum())
    return {
        "structure_images": labelled,
        "silhouette_and_nmi_images": min(labelled, STRUCTURE_ROWS),
        "structure_seed": 0,
    }


TASKS: dict[str, Callable[[Exam], Judgement]] = {
    "knn": judge_knn,
    "linear": judge_linear,
    "ridge": judge_ridge,
    "retrieval": judge_retrieval,
    "ood": judge_ood,
    "geometry": judge_geometry,
    "unlabelled": judge_unlabelled,
    "checkpoints": judge_checkpoints,
}
"""Tasks by name; each says in its docstring what it measures."""


def _descriptor(exam: Exam) -> tuple[Tensor, Tensor]:
    """Descriptors of the two views of test images, at the scale of those of training images."""
    learned = rotation_invariant_descriptor(exam.pictures("train", DESCRIBED)[0])
    first, second = (rotation_invariant_descriptor(view) for view in exam.pictures("test"))
    _, queries, targets = standardised(learned, first, second, shrinkage=0.5)
    return queries, targets
