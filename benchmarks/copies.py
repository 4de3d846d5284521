"""How well are copies found, and do as many false pairs come as a threshold announces?

    python -m benchmarks.copies DATA RUN [RUN ...] [--images 2000] [--copies 400] [--records]

Of some images of DATA copies are made by JPEG (quality 30 to 95), resizing (to 0.4 to 1 of each side), slight crops (up
to a tenth of width and height), or all three (`isosphere.data.CopiedSource`). Contenders: each layer of each RUN (a
folder, or ``timm:NAME[@FILE]``), and beside them the 64 bits of a perceptual hash (pHash: signs of low frequencies of
the cosine transform of a grey picture of 32 px against their median) and the pixels of a picture of 16 px.

``precision`` is the average precision of the pairs of a copy and its original among all pairs of a copy and an image,
with a 95 % interval over the copies. ``threshold`` is the one that ``isosphere dedup`` would choose, ``recall`` the
share of a second set of copies of other images that it finds, ``expected`` the false pairs that it announces among the
images and ``counted`` those that are there: pairs at or above the threshold. DATA should hold no copies of its own;
files with the same content are left out. ``--records`` writes the rows to records/copies/results.csv.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import isosphere
from experiments.command import count, parser, version_of
from experiments.records import Table
from isosphere.data import WHOLE, CopiedSource, Source, digests, open_source, permutation, read_images
from isosphere.evaluation import choose_threshold, copy_cosines, copy_precision

RECORDS = Path(__file__).parent / "records" / "copies" / "results.csv"
KEY = ("data", "contender", "layer", "images", "copies", "seed")
VALUES = ("precision", "low", "high", "threshold", "recall", "expected", "counted", "versions")


def perceptual_hash(images: Tensor) -> Tensor:
    """64 signs of each grey picture of 32 px, ``(n, 32, 32)`` to ``(n, 64)`` of +-1: cosines order pairs as Hamming
    distances do.
    """
    k, x = torch.arange(32, dtype=torch.float64)[:, None], torch.arange(32, dtype=torch.float64)[None]
    basis = torch.cos(torch.pi * k * (2 * x + 1) / 64)
    low = (basis @ images.double() @ basis.T)[:, :8, :8].flatten(1)
    return torch.where(low > low[:, 1:].median(1, keepdim=True).values, 1.0, -1.0)


def small(source: Source, side: int) -> Tensor:
    """The pictures as squares in grey, whole: ``(n, side, side)`` in [0, 1]."""
    reading = isosphere.data.Reading(fit=WHOLE)
    found = read_images(source.read_as(reading), side, workers=1)
    assert len(found) == len(source), found.skipped[:3]
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (found.images.float() * weights).sum(1) / 255


def contenders(runs: list[str], parts: list[Source]) -> Iterator[tuple[str, str, list[Tensor]]]:
    """Name, layer, and embeddings of the images, of the copies, and of the second set with its copies."""
    yield "pHash", "", [perceptual_hash(small(part, 32)) for part in parts]
    pixels = [small(part, 16).flatten(1) for part in parts]
    yield "pixels", "", [functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in pixels]
    for name in runs:
        run = isosphere.load(name, device="cpu").fitted(WHOLE)
        features = []
        for part in parts:
            positions, found, failed = run.source_features(part, workers=1)
            assert len(positions) == len(part), failed
            features.append(found)
        for layer in run.layers:
            yield Path(name.partition("@")[0]).name, layer, [run.select(each, layer) for each in features]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data")
    options.add_argument("runs", nargs="*")
    options.add_argument("--images", type=count, default=2000)
    options.add_argument("--copies", type=count, default=400)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--records", nargs="?", const=RECORDS, type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    source = open_source(given.data)
    known = digests(source)
    _, first = np.unique(known, axis=0, return_index=True)
    order = permutation(len(source), given.seed, 0).numpy()
    order = order[np.isin(order, first)][: given.images]
    images, half = source.subset(order), given.copies
    copied = [CopiedSource(images.subset(np.arange(a, a + half)), seed=given.seed) for a in (0, half)]
    kinds = [copied[0].copying(i).kind for i in range(half)]
    table = None if given.records is None else Table(given.records, KEY, VALUES)
    print(f"{'contender':28} {'layer':9} precision [95 %]        threshold  recall  expected  counted")
    for name, layer, (z, once, twice) in contenders(given.runs, [images, *copied]):
        precision = copy_precision(z, once)
        chosen = choose_threshold(copy_cosines(z[:half], once), kinds, z, seed=given.seed)
        recall = float((copy_cosines(z[half : 2 * half], twice) >= chosen.threshold).float().mean())
        unit = functional.normalize(z.float(), dim=1)
        counted = int(((unit @ unit.T).triu(1) >= chosen.threshold).sum())
        expected = float("nan") if chosen.false_pairs is None else chosen.false_pairs
        low, high = 100 * precision.low, 100 * precision.high
        print(
            f"{name:28} {layer:9} {100 * precision.value:5.1f} [{low:5.1f}, {high:5.1f}]   {chosen.threshold:9.5f}   "
            f"{100 * recall:5.1f}  {expected:8.2f}  {counted:7}"
        )
        if table is not None:
            key = (source.name, name, layer, len(images), half, given.seed)
            figures = (
                precision.value,
                precision.low,
                precision.high,
                chosen.threshold,
                recall,
                expected,
                counted,
            )
            row = dict(zip(KEY, key, strict=True)) | dict(
                zip(VALUES, [f"{x:.6g}" for x in figures], strict=False)
            )
            if row not in table:
                table.append(row | {"versions": version_of("timm")})


if __name__ == "__main__":
    main()
