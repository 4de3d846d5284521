"""One cell of the table: train one method on one data set from one seed, and judge it."""

import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.data import ImageSet, Split, Views, load_images, open_source, permutation
from isosphere.discrepancies import MMD
from isosphere.evaluation import (
    WCCN,
    WHITENING,
    class_retrieval,
    class_structure,
    extract,
    extract_views,
    geometry,
    instance_retrieval,
    knn,
    linear_probe,
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
    standardised,
)
from isosphere.kernels import HeatKernel
from isosphere.methods import Method
from isosphere.reductions import nearest_neighbours
from isosphere.runs import RunFolder
from isosphere.statistics import mean_cosine, within_share
from isosphere.training import Parts, bf16_is_fast, fit, load_config, prepare

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
)
"""In percent: k-NN (20 neighbours) and linear probe of the backbone, class-level mAP, Recall@k and mean reciprocal
rank of the instance protocol in batches of 100; ``_head``: of the embedding instead. Of test embeddings:
``cosine_deviation`` sqrt(d) times the standard deviation of the cosine of a pair (1 for uniform points),
``neighbour_cosine`` the mean cosine to the nearest other image, and from ``fisher`` on how classes lie among them.
``transfer``: the set that the frozen backbone is also judged on. ``validation``: ``knn`` or ``recall1_head`` of
training images that the run did not see, for choices. ``knn_white``: k-NN of the backbone's features whitened by
those of the training images; ``knn_views``: by what two views of each of these differ in."""


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
COMMON = {"model.encoder": "small-conv", "model.dim": 128, "model.hidden": 1024, "train.tensorboard": False}
BASELINES = ("untrained", "pixels", "pca-whitened", "descriptor")


def _peak() -> float:
    """Most memory so far in MiB: of the accelerator's tensors, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(job: dict[str, Any], spec: str, others: dict[str, str] | None = None) -> dict[str, Any]:
    """Metrics of a job (data, method, options, epochs, seed) on the data at ``spec``; rates in percent.

    ``others``: further labelled sets by name; the first that is not the job's own is transferred to.
    """
    data = DATA[job["data"]]
    parts = prepare_job(job, spec)
    test = drawn_images(spec, data.test_images, parts.config.data.canvas_size or 32)
    if job["method"] in BASELINES[1:]:
        assert isinstance(parts.images, ImageSet)
        return _baseline(job["method"], data, parts.images, test, parts)
    before = _peak()
    method, figures = train(job, parts)
    figures |= {
        "peak_mib": _peak() - before,
        "parameters": sum(p.numel() for p in parts.method.parameters() if p.requires_grad),
    }
    transfer = next(
        ((n, s) for n, s in (others or {}).items() if DATA[n].labelled and not job["data"].startswith(n)),
        None,
    )
    return (
        figures
        | strength(method, parts)
        | judge(method, data, parts, test)
        | (_transfer(method, parts, *transfer) if transfer else {})
    )


def strength(method: Method, parts: Parts) -> dict[str, float]:
    """The weight that the run came to, and its expansion ratio where it has one."""
    weight, ratio = getattr(method, "weight", None), None
    if weight is not None:
        ratio = method.expansion_ratio(parts.config.train.batch_size or 2, parts.views.recipe.global_views)
    found = {"weight": None if weight is None else float(weight), "r_star": ratio}
    return {name: value for name, value in found.items() if value is not None}


def prepare_job(job: dict[str, Any], spec: str) -> Parts:
    """Everything that `fit` takes, from the job's keys and those of its data set."""
    ours = job["method"] not in BASELINES and not job["method"].startswith("lightly-")
    options = dict(item.split("=", 1) for item in job["options"].split(";") if item)
    settings = {k: v for k, v in (COMMON | DATA[job["data"]].settings).items() if k not in options}
    if job["method"].startswith("vje"):  # no projection head: the embedding is the encoder's
        settings.pop("model.dim", None)
    flags = (
        settings
        | {
            "data.source": _sized(spec, DATA[job["data"]].settings["data.limit"]),
            "train.seed": job["seed"],
            "train.epochs": job["epochs"],
        }
        | {"method.name": job["method"] if ours else "simclr"}
    )
    return prepare(load_config(sets=[f"{k}={v}" for k, v in options.items()], flags=flags))


def arithmetic() -> torch.dtype | None:
    """What frozen features are computed in: bfloat16 where that is fast (emulated it is slower), else None: float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.bfloat16 if bf16_is_fast(device) else None


def drawn_images(spec: str, count: int | None, canvas: int, split: Split = "test") -> ImageSet:
    """So many images of a source, or all, in an order drawn by a fixed seed."""
    source = open_source(spec, split=split)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    return load_images(source.subset(order[:count].numpy()), canvas)


def unseen_images(parts: Parts, count: int) -> ImageSet | None:
    """So many images of the training part that `data.limit` keeps from the run; None where it leaves none."""
    config = parts.config
    spec, limit = str(config.data.source), config.data.limit
    if limit is None:
        return None
    if spec.startswith("textures:"):  # more instances of the same family: the run's come first
        source = open_source(_sized(spec.partition("?")[0], limit + count), split="train")
        left = torch.arange(limit, limit + count)
    else:
        source = open_source(spec, split="train")
        left = permutation(len(source), config.train.seed, 0)[limit:][:count]
    return load_images(source.subset(left.numpy()), config.data.canvas_size or 32) if len(left) else None


def _sized(spec: str, count: int) -> str:
    """The source with so many training images, where the source makes as many as one likes."""
    return f"{spec}?count={count}" if spec.startswith("textures:") and "?" not in spec else spec


def train(job: dict[str, Any], parts: Parts) -> tuple[Method, dict[str, Any]]:
    """The trained method and how fast it was; the untrained one as it is."""
    method = parts.method
    if job["method"] == "untrained":
        return method, {}
    if job["method"] == "lightly-simclr":
        from experiments.methods.rivals import LightlySimCLR

        method = LightlySimCLR(method)
    torch.manual_seed(job["seed"])
    with tempfile.TemporaryDirectory() as folder:
        summary = fit(
            parts.config,
            RunFolder.create(Path(folder) / "run"),
            method,
            parts.loader,
            parts.views,
            parts.fabric,
            observer=parts.observer,
            facts=parts.identity,
        )
    return method, {"images_per_second": summary.images_per_second, "seconds": summary.seconds}


def judge(method: Method, data: Data, parts: Parts, test: ImageSet) -> dict[str, Any]:
    """Accuracy, retrieval and geometry of a frozen method."""
    assert isinstance(parts.images, ImageSet)
    encoder, size = method.encoder, parts.config.data.image_size or 32
    look: dict[str, Any] = {"autocast": arithmetic()}
    first, second = extract_views(method.embed, test, parts.views, seed=12345, **look)[:2]
    heads = torch.stack([first.head, second.head])
    shape = geometry(first.head, views=heads, discrepancies={"mmd": MMD(HeatKernel(first.head.shape[1]))})
    shares = within_share(torch.stack([first.backbone, second.backbone]))
    figures: dict[str, Any] = {
        "uniformity": shape["uniformity"].value,
        "alignment": shape["alignment"].value,
        "effective_rank": shape["effective_rank"].value,
        "zscore": shape["zscore/mmd"].value,
        "collapsed": shape["mean_cosine"].value > 0.98,
        "r_min": shares.min().item(),
        "local_dimension": shape["local_dimension"].value,
        **_neighbourhood(first.head),
    }
    unseen = unseen_images(parts, data.test_images)
    if data.labelled:
        see = partial(extract, method.embed, size=size, mean=encoder.mean, std=encoder.std, **look)  # type: ignore[arg-type]
        a, b = see(parts.images), see(test)
        if unseen is not None:
            accuracy = knn(a.backbone, parts.images.labels, see(unseen).backbone, unseen.labels, k=20)
            figures["validation"] = 100 * accuracy.value
        pair = [
            v.backbone for v in extract_views(method.embed, parts.images, parts.views, seed=12345, **look)[:2]
        ]
        by_views = WCCN.fit(torch.stack(pair), mean=a.backbone.mean(0), shrinkage=0.01)
        whitened = {
            "knn_white": standardised(a.backbone, b.backbone, shrinkage=WHITENING),
            "knn_views": (by_views(a.backbone), by_views(b.backbone)),
        }
        for name, (trained, tested) in whitened.items():
            figures[name] = 100 * knn(trained, parts.images.labels, tested, test.labels, k=20).value
        return figures | _labelled(a.backbone, b.backbone, parts.images, test, (a.head, b.head))
    if unseen is not None:
        first_of, second_of = extract_views(method.embed, unseen, parts.views, seed=12345, **look)[:2]
        figures["validation"] = 100 * instance_retrieval(first_of.head, second_of.head)["recall@1"].value
    return (
        figures | _instances(first.backbone, second.backbone) | _instances(first.head, second.head, "_head")
    )


def _labelled(
    train: Tensor, test: Tensor, images: ImageSet, tests: ImageSet, heads: tuple[Tensor, Tensor] | None = None
) -> dict[str, Any]:
    accuracy = knn(train, images.labels, test, tests.labels, k=20)
    probe = linear_probe(train, images.labels, test, tests.labels)
    figures = _percent("knn", accuracy) | _percent("linear", probe)
    figures["map"] = 100 * class_retrieval(test, tests.labels)["map"].value
    if heads is not None:
        shape = class_structure(heads[1], tests.labels)
        figures |= {"fisher": shape["fisher_ratio"].value, "silhouette": shape["silhouette"].value}
        figures |= {"nmi": shape["kmeans_nmi"].value, "class_angle": shape["class_angle"].value}
        figures["knn_head"] = 100 * knn(heads[0], images.labels, heads[1], tests.labels, k=20).value
        figures["map_head"] = 100 * class_retrieval(heads[1], tests.labels)["map"].value
    return figures


def _instances(first: Tensor, second: Tensor, suffix: str = "") -> dict[str, Any]:
    found = instance_retrieval(first, second)
    return (
        _percent(f"recall1{suffix}", found["recall@1"])
        | {f"recall{k}{suffix}": 100 * found[f"recall@{k}"].value for k in (3, 5)}
        | {f"mrr{suffix}": 100 * found["map"].value}
    )


def _neighbourhood(z: Tensor) -> dict[str, float]:
    """Spread of the cosine of a pair in units of the uniform law's, and the mean cosine to the nearest image."""
    x = functional.normalize(z.float(), dim=1)
    n, d = x.shape
    # Over pairs of different images.
    square = ((x.mT @ x).square().sum() - n) / (n * (n - 1))
    nearest = nearest_neighbours(x, x, 2)[0][:, 1]
    deviation = (d * (square - mean_cosine(x).square())).clamp_min(0).sqrt()
    return {"cosine_deviation": deviation.item(), "neighbour_cosine": nearest.mean().item()}


def _transfer(method: Method, parts: Parts, name: str, spec: str) -> dict[str, Any]:
    """k-NN and linear probe of the frozen backbone on another set, its images brought to the encoder's size."""
    encoder, data = method.encoder, DATA[name]
    size = parts.config.data.image_size or 32
    train = drawn_images(spec, data.settings.get("data.limit"), size, "train")
    test = drawn_images(spec, data.test_images, size, "test")
    a, b = (
        extract(method.embed, x, size, encoder.mean, encoder.std, autocast=arithmetic())  # type: ignore[arg-type]
        for x in (train, test)
    )
    found = _labelled(a.backbone, b.backbone, train, test)
    return {"transfer": name, "transfer_knn": found["knn"], "transfer_linear": found["linear"]}


def _percent(name: str, estimate: Any) -> dict[str, float]:
    return {
        name: 100 * estimate.value,
        f"{name}_low": 100 * estimate.low,
        f"{name}_high": 100 * estimate.high,
    }


def _baseline(name: str, data: Data, train: ImageSet, test: ImageSet, parts: Parts) -> dict[str, Any]:
    """Fixed features in place of a network's; for textures, of two views of each test image."""
    describe: Callable[[Tensor], Tensor] = rotation_invariant_descriptor if name == "descriptor" else pixels
    if not data.labelled:
        views = [
            torch.cat([v[i] for v in _raw_views(parts.views, test)]).clamp(0, 1).mul(255).byte()
            for i in (0, 1)
        ]
        first, second = (describe(v) for v in views)
        if name == "pca-whitened":
            first, second = pca_whitened(first, first, 128)[1], pca_whitened(first, second, 128)[1]
        return _instances(first, second)
    a, b = describe(train.images), describe(test.images)
    if name == "pca-whitened":
        a, b = pca_whitened(a, b, 128)
    return _labelled(a, b, train, test)


def _raw_views(views: Views, test: ImageSet) -> list[list[Tensor]]:
    """Views of the test images as images in [0, 1], in batches."""
    mean, std = (torch.tensor(x).view(1, -1, 1, 1) for x in (views.recipe.mean, views.recipe.std))
    made = []
    for index in torch.arange(len(test)).split(250):
        seen = views(test.images[index], index=index, epoch=0, seed=12345)
        made.append([v * std + mean for v in seen])
    return made
