"""One cell of the table: train one method on one data set from one seed, and evaluate it as everybody would."""

import resource
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn import functional

from isosphere import Evaluation, Run, evaluate, load
from isosphere.data import Source, Split, as_source, open_source, permutation
from isosphere.evaluation import FeatureCache, Figure, instance_ranks, selective_risk
from isosphere.reductions import nearest_neighbours
from isosphere.runs import RunFolder
from isosphere.statistics import COLLAPSED, mean_cosine, within_share
from isosphere.training import Callback, Config, ConsoleReporter, Summary, load_config
from isosphere.workflows import EvaluationContext, Training, choose_splits, prepare_training

METRICS = (
    *("knn", "knn_low", "knn_high", "knn_head", "linear", "linear_low", "linear_high", "map", "map_head"),
    *("recall1", "recall1_low", "recall1_high", "recall1_head", "recall1_head_low", "recall1_head_high"),
    *("mrr", "mrr_head"),
    *("uniformity", "alignment", "effective_rank", "zscore", "collapsed", "r_star", "r_min"),
    *("images_per_second", "seconds", "peak_mib", "parameters"),
    *("recall3", "recall3_head", "recall5", "recall5_head", "weight"),
    *(
        "cosine_deviation",
        "neighbour_cosine",
        "local_dimension",
        "fisher",
        "silhouette",
        "nmi",
        "class_angle",
    ),
    *("transfer", "transfer_knn", "transfer_linear"),
    *("validation", "knn_white", "knn_views"),
    *("variance_features", "variance_images", "selective_gain"),
)
"""In percent: k-NN (20 neighbours) and linear probe of the backbone, class-level mAP, Recall@k and mean reciprocal
rank of the instance protocol in batches of 100; ``_head``: of the embedding instead. Of test embeddings:
``cosine_deviation`` sqrt(d) times the standard deviation of the cosine of a pair (1 for uniform points),
``neighbour_cosine`` the mean cosine to the nearest other image, and from ``fisher`` on how classes lie among them.
``transfer``: the set that the frozen backbone is also evaluated on. ``validation``: ``knn`` or ``recall1_head`` of
training images that the run did not see, for choices. ``knn_white``: k-NN of the backbone's features whitened by
those of the training images; ``knn_views``: under WCCN, each image a class of its views. Of methods with a posterior:
standard deviation over mean of its variance, over features and over images, and the gain of
:func:`isosphere.evaluation.selective_risk` when the other view is sought by the embedding.
"""

ALONE: dict[str, Any] = {"baselines": False, "progress": False}
"""How a run is evaluated: the table's baselines have rows of their own."""


@dataclass(frozen=True)
class Data:
    """How a data set is used: the command line's own keys, and how many test images."""

    settings: dict[str, Any]
    test_images: int
    labelled: bool


DATA = {
    "cifar10": Data({"data.limit": 6000, "data.image_size": 32, "train.batch_size": 256}, 5000, True),
    "imagenette": Data({"data.limit": 4000, "data.image_size": 64, "train.batch_size": 256}, 1500, True),
    **{
        family: Data(
            {
                "data.limit": 2000,
                "data.canvas_size": 72,
                "data.image_size": 48,
                "train.batch_size": 100,
                "views.recipe": "textures",
            },
            1000,
            False,
        )
        for family in ("wood", "cloud", "disk", "flake")
    },
}
_WIDE = {"model.dim": 256, "model.hidden": 2048, "train.batch_size": 256}
TIERS = {
    "resnet18": _WIDE | {"model.encoder": "resnet18"},
    "vit-s": _WIDE | {"model.encoder": "vit_small_patch8_224", "optim.learning_rate": 5e-4},
}
"""What a GPU changes, beside all images but a tenth; ``cifar10-vit-s`` is the same data in that tier."""
_MOST = {"cifar10": 45_000, "imagenette": 8_500, **dict.fromkeys(("wood", "cloud", "disk", "flake"), 9_000)}
DATA |= {
    f"{name}-{tier}": Data(data.settings | wide | {"data.limit": _MOST[name]}, 10_000, data.labelled)
    for tier, wide in TIERS.items()
    for name, data in DATA.items()
}
COMMON = {
    **{"model.encoder": "small-conv", "model.dim": 128, "model.hidden": 1024},
    **{"train.tensorboard": False, "train.knn_epochs": 0},
}
FORMS = {"byol": {"method.options.standardise": "false"}}
"""Forms of methods in this table, where a cell's options do not say otherwise: BYOL as printed, which the library's
default is not.
"""
BASELINES = ("untrained", "pixels", "pca-whitened", "descriptor")
FIXED = {"pixels": "pixels", "pca-whitened": "pca", "descriptor": "descriptor"}
"""Baselines that no network takes part in, and what an evaluation calls them."""

Place = tuple[str, str, str, str]
"""Where a column's figure stands in an evaluation: task, layer, metric, variant."""
CLASSES: dict[str, Place] = {
    "knn": ("knn", "backbone", "accuracy", ""),
    "knn_head": ("knn", "head", "accuracy", ""),
    "knn_white": ("knn", "whitened", "accuracy", ""),
    "knn_views": ("knn", "wccn", "accuracy", ""),
    "linear": ("linear", "backbone", "accuracy", ""),
    "map": ("retrieval", "backbone", "map", "class"),
    "map_head": ("retrieval", "head", "map", "class"),
}
INSTANCES: dict[str, Place] = {
    f"{column}{suffix}": ("retrieval", layer, metric, "targets")
    for suffix, layer in (("", "backbone"), ("_head", "head"))
    for column, metric in (("mrr", "map"), *((f"recall{k}", f"recall@{k}") for k in (1, 3, 5)))
}
GEOMETRY: dict[str, Place] = {
    metric: ("geometry", "head", metric, "")
    for metric in ("uniformity", "alignment", "effective_rank", "local_dimension")
} | {"zscore": ("geometry", "head", "zscore", "mmd-heat")}
STRUCTURE: dict[str, Place] = {
    column: ("geometry", "head", metric, "")
    for column, metric in (
        *(("fisher", "fisher_ratio"), ("silhouette", "silhouette")),
        *(("nmi", "kmeans_nmi"), ("class_angle", "class_angle")),
    )
}


def run(job: dict[str, Any], spec: str, others: dict[str, str] | None = None) -> dict[str, Any]:
    """Metrics of a job (data, method, options, epochs, seed) on the data at ``spec``; rates in percent.

    ``others``: further labelled sets by name; the first that is not the job's own is transferred to.
    """
    transfer = next(
        ((n, s) for n, s in (others or {}).items() if DATA[n].labelled and not job["data"].startswith(n)),
        None,
    )
    with tempfile.TemporaryDirectory() as folder:
        trained, figures = train(job, configuration(job, spec), Path(folder) / "run")
        if job["method"] in FIXED:
            return baseline(trained, job, spec)
        figures |= strength(trained) | figures_of(trained, job["data"], spec)
        return figures | (_transfer(trained, *transfer) if transfer else {})


def configuration(job: dict[str, Any], spec: str) -> Config:
    """From the job's keys and those of its data set; a baseline is an encoder that is not trained."""
    ours = job["method"] not in BASELINES and not job["method"].startswith("lightly-")
    given = dict(item.split("=", 1) for item in job["options"].split(";") if item)
    options = FORMS.get(job["method"], {}) | given
    settings = {k: v for k, v in (COMMON | DATA[job["data"]].settings).items() if k not in options}
    if job["method"].startswith("vje"):  # no projection head: the embedding is the encoder's
        settings.pop("model.dim", None)
    flags = (
        settings
        | {
            "data.source": _sized(spec, DATA[job["data"]].settings["data.limit"]),
            "train.seed": job["seed"],
            "train.epochs": 0 if job["method"] in BASELINES else job["epochs"],
        }
        | {"method.name": job["method"] if ours else "simclr"}
    )
    return load_config(sets=[f"{k}={v}" for k, v in options.items()], flags=flags)


def train(
    job: dict[str, Any], config: Config, folder: Path, source: Source | None = None
) -> tuple[Run, dict[str, Any]]:
    """The run that is left in the folder, with the images it was trained on, and how fast it was.

    ``source``: the images, where the configuration does not name them.
    """
    training = prepare_training(config, RunFolder(folder), source=source)
    parts = training.parts
    if job["method"] == "lightly-simclr":
        from experiments.methods.rivals import LightlySimCLR

        training.parts = parts = replace(parts, method=LightlySimCLR(parts.method))
    before = _peak()
    run, summary = finish(training)
    figures: dict[str, Any] = {
        "parameters": sum(p.numel() for p in parts.method.parameters() if p.requires_grad)
    }
    if summary.steps:
        speed = {"images_per_second": summary.images_per_second, "seconds": summary.seconds}
        figures |= speed | {"peak_mib": _peak() - before}
    return run, figures


def finish(training: Training, callbacks: Sequence[Callback] = ()) -> tuple[Run, Summary]:
    """Train what is prepared, without a word; the run has the images that it was trained on."""
    with training.started():
        summary = training.run(ConsoleReporter(Console(quiet=True)), callbacks)
    return replace(load(training.folder.path), images=as_source(training.parts.images)), summary


def strength(run: Run) -> dict[str, float]:
    """The weight that the run came to, and its expansion ratio where it has one."""
    method, config = run.method, run.config
    weight, ratio = getattr(method, "weight", None), None
    if weight is not None:
        ratio = method.expansion_ratio(config.train.batch_size or 2, run.views.recipe.global_views)
    found = {"weight": None if weight is None else float(weight), "r_star": ratio}
    return {name: value for name, value in found.items() if value is not None}


def figures_of(run: Run, name: str, spec: str) -> dict[str, Any]:
    """Accuracy, retrieval and geometry of a trained run, from the records of its evaluation."""
    data = DATA[name]
    test = drawn(spec, data.test_images)
    tasks = ("knn", "linear", "retrieval", "geometry") if data.labelled else ("retrieval", "geometry")
    found = evaluate(run, run.images, test=test, tasks=tasks, **ALONE)
    cosine = _figure(found, "trained", ("geometry", "head", "mean_cosine", "")).value
    figures = read(found, (CLASSES | STRUCTURE if data.labelled else INSTANCES) | GEOMETRY)
    figures |= {"collapsed": cosine > COLLAPSED} | _neighbourhood(run, test) | _posterior(run, test)
    unseen = unseen_images(run.config, data.test_images)
    if unseen is not None:
        column = {"knn": CLASSES["knn"]} if data.labelled else {"recall1_head": INSTANCES["recall1_head"]}
        task = next(iter(column.values()))[0]
        chosen = evaluate(run, run.images, test=unseen, tasks=[task], **ALONE)
        figures["validation"] = next(iter(read(chosen, column).values()))
    return figures


def baseline(run: Run, job: dict[str, Any], spec: str) -> dict[str, Any]:
    """The figures of fixed features, which an evaluation of any run has beside the encoder's."""
    data, model = DATA[job["data"]], FIXED[job["method"]]
    tasks = ("knn", "linear") if data.labelled else ("retrieval",)
    found = evaluate(run, run.images, test=drawn(spec, data.test_images), tasks=tasks, progress=False)
    columns = {"knn": CLASSES["knn"], "linear": CLASSES["linear"]} if data.labelled else INSTANCES
    return read(
        found, {c: (t, "", m, v) for c, (t, layer, m, v) in columns.items() if layer == "backbone"}, model
    )


def read(found: Evaluation, columns: Mapping[str, Place], model: str = "trained") -> dict[str, float]:
    """The columns of a row from an evaluation: rates in percent, with their interval where the table has it."""
    row: dict[str, float] = {}
    for column, place in columns.items():
        estimate = _figure(found, model, place).estimate
        unit = 1 if place[0] == "geometry" else 100
        row[column] = unit * estimate.value
        if f"{column}_low" in METRICS:
            row |= {f"{column}_low": unit * estimate.low, f"{column}_high": unit * estimate.high}
    return row


def _figure(found: Evaluation, model: str, place: Place) -> Figure:
    task, layer, metric, variant = place
    return found[task].one(model=model, layer=layer, metric=metric, variant=variant)


def _transfer(run: Run, name: str, spec: str) -> dict[str, Any]:
    """k-NN and linear probe of the frozen backbone on another set, its images brought to the encoder's size."""
    data = DATA[name]
    learned, test = drawn(spec, data.settings.get("data.limit"), "train"), drawn(spec, data.test_images)
    found = read(
        evaluate(run, learned, test=test, tasks=("knn", "linear"), **ALONE),
        {f"transfer_{task}": CLASSES[task] for task in ("knn", "linear")},
    )
    return {"transfer": name, **found}


def _neighbourhood(run: Run, test: Source) -> dict[str, float]:
    """What no task measures, of features that the evaluation has kept: the smallest share of variance within images
    of the backbone's directions; of the embeddings the spread of the cosine of a pair in units of the uniform law's,
    and the mean cosine to the nearest image.
    """
    context = _context(run, test)
    pair = context.views("trained")
    x = functional.normalize(context.centre("trained", "test").head.float(), dim=1)
    n, d = x.shape
    # Over pairs of different images.
    square = ((x.mT @ x).square().sum() - n) / (n * (n - 1))
    deviation = (d * (square - mean_cosine(x).square())).clamp_min(0).sqrt()
    return {
        "r_min": within_share(torch.stack([view.backbone for view in pair])).min().item(),
        "cosine_deviation": deviation.item(),
        "neighbour_cosine": nearest_neighbours(x, x, 2)[0][:, 1].mean().item(),
    }


def _context(run: Run, test: Source) -> EvaluationContext:
    kept = FeatureCache(run.folder.path / "features")
    return EvaluationContext(run, choose_splits(run.images, test), cache=kept)


def _posterior(run: Run, test: Source) -> dict[str, float]:
    """How the variances of a posterior lie, and whether the certain images are those whose other view is found."""
    of_features: Any = getattr(run.method, "posterior", None)
    if of_features is None:
        return {}
    context = _context(run, test)
    variance = of_features(context.centre("trained", "test").backbone).variance.double()
    first, second = context.views("trained")[:2]
    errors = 1 - instance_ranks(first.head, second.head).reciprocal_rank()
    by_feature, by_image = variance.mean(0), variance.mean(1)
    return {
        "variance_features": (by_feature.std() / by_feature.mean()).item(),
        "variance_images": (by_image.std() / by_image.mean()).item(),
        "selective_gain": selective_risk(errors, by_image[: len(errors)], resamples=2)["gain"].value,
    }


# --- images -------------------------------------------------------------------------------------------------------


def drawn(spec: str, count: int | None, split: Split = "test") -> Source:
    """So many images of a source, or all, in an order drawn by a fixed seed."""
    source = open_source(spec, split=split)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    return source.subset(order[:count].numpy())


def unseen_images(config: Config, count: int) -> Source | None:
    """So many images of the training part that `data.limit` keeps from the run; None where it leaves none."""
    spec, limit = str(config.data.source), config.data.limit
    if limit is None:
        return None
    if spec.startswith("textures:"):  # more instances of the same family: the run's come first
        source = open_source(_sized(spec.partition("?")[0], limit + count), split="train")
        left = torch.arange(limit, limit + count)
    else:
        source = open_source(spec, split="train")
        left = permutation(len(source), config.train.seed, 0)[limit:][:count]
    return source.subset(left.numpy()) if len(left) else None


def _sized(spec: str, count: int) -> str:
    """The source with so many training images, where the source makes as many as one likes."""
    return f"{spec}?count={count}" if spec.startswith("textures:") and "?" not in spec else spec


def _peak() -> float:
    """Most memory so far in MiB: of the accelerator's tensors, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
