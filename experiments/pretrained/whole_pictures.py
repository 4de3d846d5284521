"""How `search` and `dedup` should look at pictures that are no squares: crop, pad or squeeze, with a frozen network.

    python -m experiments.pretrained.whole_pictures --weights efficientnet-lite0-57934424.pth \
        dtd=dtd10_160.zip imagenette=imagenette128.zip

Each image of a set is cut to a random shape (sides 1:2 to 2:1, anywhere): that is the collection. Per fit, in percent:
`class mAP` of a search among them; `copy R@1` where the query is the same image cut to another shape; `edited R@1`
where it is the picture itself with a tenth cut from its long side, halved and compressed (JPEG, quality 50); `hard` how
often such an edited copy is nearer than the same picture with its two ends in each other's place, which shares the
central square.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from experiments.command import count, parser
from experiments.pretrained.features import network
from isosphere.data import Fit, Pixels, open_source
from isosphere.evaluation import class_retrieval

FITS: tuple[Fit, ...] = ("crop", "pad", "squeeze")


def cut(picture: Any, rng: np.random.Generator) -> Image.Image:
    """A part of another shape, anywhere: sides 1:2 to 2:1."""
    shape = 2.0 ** rng.uniform(-1, 1)
    width, height = picture.size
    w = min(width, height * shape)
    h = min(height, w / shape)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return picture.crop((round(left), round(top), round(left + w), round(top + h)))


def edited(picture: Image.Image) -> Image.Image:
    """A tenth cut from the long side, halved, compressed."""
    width, height = picture.size
    w, h = (round(0.9 * width), height) if width > height else (width, round(0.9 * height))
    stream = io.BytesIO()
    picture.crop((0, 0, w, h)).resize((w // 2, h // 2), Image.Resampling.LANCZOS).save(
        stream, "JPEG", quality=50
    )
    return Image.open(stream).convert("RGB")


def ends_swapped(picture: Image.Image) -> Image.Image:
    """What lies outside of the central square, in each other's place."""
    width, height = picture.size
    side, other = min(width, height), picture.copy()
    start = (max(width, height) - side) // 2
    if width > height:
        boxes = (0, 0, start, height), (width - start, 0, width, height)
    else:
        boxes = (0, 0, width, start), (0, height - start, width, height)
    ends = [picture.crop(box) for box in boxes]
    for end, box in zip(reversed(ends), boxes, strict=True):
        other.paste(end, box[:2])
    return other


def rows(encode: nn.Module, pixels: Pixels, pictures: list[Image.Image]) -> Tensor:
    """Unit features."""
    squares = torch.stack([pixels.reading.square(picture, pixels.canvas) for picture in pictures])
    with torch.no_grad():
        found = torch.cat([encode(pixels.view(part)) for part in squares.split(50)])
    return nn.functional.normalize(found, dim=1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="+", help="NAME=SPEC")
    options.add_argument("--weights", type=Path, required=True)
    options.add_argument("--images", type=count, default=300)
    options.add_argument("--size", type=count, default=128)
    a = options.parse_args()
    torch.set_num_threads(1)
    encode = network("tf_efficientnet_lite0", a.weights)
    config: Any = encode.pretrained_cfg
    for name, spec in (item.split("=", 1) for item in a.data):
        source = open_source(spec, split="test")
        chosen = np.linspace(0, len(source) - 1, a.images).round().astype(int)
        labels = source.labels[chosen]
        rng = np.random.default_rng(0)
        whole = [source.image(int(i)) for i in chosen]
        shown = [cut(picture, rng) for picture in whole]
        others = [cut(picture, rng) for picture in whole]
        copies, swapped = [edited(x) for x in shown], [ends_swapped(x) for x in shown]
        long = np.array([max(x.size) > 1.25 * min(x.size) for x in shown])
        for fit in FITS:
            pixels = Pixels(a.size, a.size, tuple(config["mean"]), tuple(config["std"])).fitted(fit)
            own, other, copy, swap = (rows(encode, pixels, x) for x in (shown, others, copies, swapped))
            precision = class_retrieval(own, labels)["map"].value
            first = [
                float(((q @ own.T).argmax(1) == torch.arange(len(q))).float().mean()) for q in (other, copy)
            ]
            nearer = ((own * copy).sum(1) > (own * swap).sum(1))[torch.from_numpy(long)].float().mean()
            print(
                f"{name} {fit:8} class mAP {100 * precision:.1f}  copy R@1 {100 * first[0]:.1f}  "
                f"edited R@1 {100 * first[1]:.1f}  hard {100 * float(nearer):.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
