"""One cell of the table: train one method on one data set from one seed, and judge it."""

import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isosphere.data import ImageSet, Views, load_images, open_source
from isosphere.discrepancies import MMD
from isosphere.evaluation import (
    class_retrieval,
    extract,
    extract_views,
    geometry,
    instance_retrieval,
    knn,
    linear_probe,
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
)
from isosphere.kernels import HeatKernel
from isosphere.methods import Method
from isosphere.runs import RunFolder
from isosphere.statistics import within_share
from isosphere.training import Parts, fit, load_config, prepare

METRICS = (
    *("knn", "knn_low", "knn_high", "knn_head", "linear", "linear_low", "linear_high", "map", "map_head"),
    *("recall1", "recall1_low", "recall1_high", "recall1_head", "recall1_head_low", "recall1_head_high"),
    *("mrr", "mrr_head"),
    *("uniformity", "alignment", "effective_rank", "zscore", "collapsed", "r_star", "r_min"),
    *("images_per_second", "seconds", "peak_mib", "parameters"),
)


@dataclass(frozen=True)
class Data:
    """How a data set is used: the command line's own keys, and how many test images."""

    settings: dict[str, Any]
    test_images: int
    labelled: bool


DATA = {
    "cifar10": Data({"data.limit": 6000, "data.image_size": 32, "train.batch_size": 256}, 5000, True),
    "imagenette": Data({"data.limit": 4000, "data.image_size": 64, "train.batch_size": 256}, 1500, True),
    "wood": Data(
        {
            "data.limit": 2000,
            "data.canvas_size": 72,
            "data.image_size": 48,
            "train.batch_size": 100,
            "views.recipe": "textures",
        },
        1000,
        False,
    ),
}
COMMON = {"model.encoder": "small-conv", "model.dim": 128, "model.hidden": 1024, "train.tensorboard": False}
BASELINES = ("untrained", "pixels", "pca-whitened", "descriptor")


def run(job: dict[str, Any], spec: str) -> dict[str, Any]:
    """Metrics of a job (data, method, options, epochs, seed) on the data at ``spec``; rates in percent."""
    data = DATA[job["data"]]
    parts = _prepare(job, spec, data)
    test = _test_images(spec, data, parts.config.data.canvas_size or 32)
    if job["method"] in BASELINES[1:]:
        assert isinstance(parts.images, ImageSet)
        return _baseline(job["method"], data, parts.images, test, parts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    method, figures = _train(job, parts)
    figures |= {
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "parameters": sum(p.numel() for p in parts.method.parameters() if p.requires_grad),
    }
    return figures | _judge(method, data, parts, test)


def _prepare(job: dict[str, Any], spec: str, data: Data) -> Parts:
    ours = job["method"] not in BASELINES and not job["method"].startswith("lightly-")
    options = dict(item.split("=", 1) for item in job["options"].split(";") if item)
    # The variational methods have no projection head: their embedding is the encoder's.
    common = {k: v for k, v in COMMON.items() if not (k == "model.dim" and job["method"].startswith("vje"))}
    flags = (
        common
        | data.settings
        | {"data.source": spec, "train.seed": job["seed"], "train.epochs": job["epochs"]}
        | {"method.name": job["method"] if ours else "simclr"}
    )
    return prepare(load_config(sets=[f"{k}={v}" for k, v in options.items()], flags=flags))


def _test_images(spec: str, data: Data, canvas: int) -> ImageSet:
    source = open_source(spec, split="test")
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    return load_images(source.subset(order[: data.test_images].numpy()), canvas)


def _train(job: dict[str, Any], parts: Parts) -> tuple[Method, dict[str, Any]]:
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
            facts=parts.identity,
        )
    return method, {"images_per_second": summary.images_per_second, "seconds": summary.seconds}


def _judge(method: Method, data: Data, parts: Parts, test: ImageSet) -> dict[str, Any]:
    assert isinstance(parts.images, ImageSet)
    encoder, size = method.encoder, parts.config.data.image_size or 32
    look: dict[str, Any] = {"autocast": torch.bfloat16}
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
    }
    if data.labelled:
        a = extract(method.embed, parts.images, size, encoder.mean, encoder.std, **look)  # type: ignore[arg-type]
        b = extract(method.embed, test, size, encoder.mean, encoder.std, **look)  # type: ignore[arg-type]
        return figures | _labelled(a.backbone, b.backbone, parts.images, test, (a.head, b.head))
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
        figures["knn_head"] = 100 * knn(heads[0], images.labels, heads[1], tests.labels, k=20).value
        figures["map_head"] = 100 * class_retrieval(heads[1], tests.labels)["map"].value
    return figures


def _instances(first: Tensor, second: Tensor, suffix: str = "") -> dict[str, Any]:
    found = instance_retrieval(first, second)
    return _percent(f"recall1{suffix}", found["recall@1"]) | {f"mrr{suffix}": 100 * found["map"].value}


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
