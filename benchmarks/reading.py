"""From JPEG files to normalised 224 px views, how many images a second does one core make, beside other readers?

    python -m benchmarks.reading                       # synthetic photographs of 500 x 375, about a minute
    python -m benchmarks.reading --folder PHOTOS --records

The job is a random resized crop (.08 to 1 of the area), a flip and normalisation: one view an image, and two, as
contrastive training asks. Every reader takes the same files from memory and draws the same boxes in every round, on one
thread; times are the processor's, and of the rounds the best, so that other work on the machine counts little. A ratio
is to ImageFolder's way (Pillow and torchvision's transforms), of the best rounds, and beside it the lowest and highest
within one round. ``decode`` rows stop at the pixels. ``from the disk`` is ``data.cache``, pictures that an earlier
epoch has decoded; ``squares`` is ``data.crop_from=square``, the way of before.
Readers that are not installed are named with the reason.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.views import photographs
from PIL import Image
from torch import Tensor

from experiments.command import count, parser, version_of
from experiments.records import Table
from isosphere.data import IMAGENET_MEAN, IMAGENET_STD, DecodedCache, Loader, Source, Views, recipe
from isosphere.data._encoded import EncodedSource

RECORDS = Path(__file__).parent / "records" / "reading" / "results.csv"
SIZE = 224
Reader = Callable[[int], Any]  # reads all images in the epoch of this number


class Files(EncodedSource):
    """JPEG files in memory."""

    def __init__(self, bodies: list[bytes]) -> None:
        super().__init__("files", [f"{i}.jpg" for i in range(len(bodies))])
        self._bodies = bodies

    def body(self, i: int) -> bytes:
        return self._bodies[i]


def made_files(count: int) -> list[bytes]:
    """Random images with the spectrum of photographs, 500 x 375 and 375 x 500 in turn."""
    bodies = []
    for i, image in enumerate(photographs(count, 500)):
        pixels = image[:, :375] if i % 2 else image[:, :, :375]
        stream = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=90)
        bodies.append(stream.getvalue())
    return bodies


def isosphere(
    source: Source, views: int, *, canvas: int, whole: bool, cache: DecodedCache | None = None
) -> Reader:
    law = recipe("crops", SIZE, scale=(0.08, 1.0), jitter_probability=0.0, grey=0.0, global_views=views)
    loader = Loader(source, batch_size=16, size=canvas, whole=whole, workers=0, drop_last=False, cache=cache)
    make = Views(law)

    def read(epoch: int) -> None:
        for batch in loader.epoch(epoch):
            make(batch.images, index=batch.index, epoch=epoch, seed=0)

    return read


def transform(on_tensors: bool) -> Callable[[Any], Tensor]:
    import torchvision.transforms.v2 as T

    first = [] if on_tensors else [T.ToImage()]
    steps = [T.RandomResizedCrop(SIZE, antialias=True), T.RandomHorizontalFlip(), *first]
    steps += [T.ToDtype(torch.float32, scale=True), T.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))]
    return T.Compose(steps)


def decoders() -> dict[str, Callable[[bytes], Any]]:
    """From bytes to pixels, by name; those that are installed."""
    from torchvision.io import decode_jpeg

    found: dict[str, Callable[[bytes], Any]] = {
        "Pillow": lambda body: Image.open(io.BytesIO(body)).convert("RGB"),
        "torchvision.io": lambda body: decode_jpeg(torch.frombuffer(bytearray(body), dtype=torch.uint8)),
    }
    for name, build in {"simplejpeg": _simplejpeg, "PyTurboJPEG": _turbojpeg}.items():
        try:
            found[name] = build()
        except Exception as error:
            print(f"{name}: not measured ({type(error).__name__}: {error})")
    return found


def _simplejpeg() -> Callable[[bytes], Tensor]:
    from simplejpeg import decode_jpeg  # type: ignore[import-not-found]

    return lambda body: torch.from_numpy(decode_jpeg(body)).permute(2, 0, 1)


def _turbojpeg() -> Callable[[bytes], Tensor]:
    from turbojpeg import TJPF_RGB, TurboJPEG  # type: ignore[import-not-found]

    codec = TurboJPEG(os.environ.get("TURBOJPEG"))  # the library, where it is not on the usual paths
    return lambda body: torch.from_numpy(codec.decode(body, pixel_format=TJPF_RGB)).permute(2, 0, 1)


def readers(bodies: list[bytes], place: Path) -> dict[str, dict[str, Reader]]:
    """Readers by job and name; decoded pictures are kept at a place."""
    source = Files(bodies)
    keys = np.arange(1, 2 * len(bodies) + 1).reshape(-1, 2)
    native = min(min(Image.open(io.BytesIO(body)).size) for body in bodies)
    canvas = max(SIZE, min(native, 2 * SIZE))

    def through(decode: Callable[[bytes], Any], views: int) -> Reader:
        finish = transform(on_tensors=decode is not found["Pillow"])

        def read(epoch: int) -> None:
            for start in range(0, len(bodies), 16):
                made = [
                    [finish(picture) for _ in range(views)]
                    for picture in map(decode, bodies[start : start + 16])
                ]
                for view in zip(*made, strict=True):
                    torch.stack(view)

        return read

    found = decoders()
    jobs: dict[str, dict[str, Reader]] = {}
    for views in (1, 2):
        jobs[f"{views} view{'s' * (views > 1)}"] = {
            "ImageFolder": through(found["Pillow"], views),
            **{name: through(decode, views) for name, decode in found.items() if name != "Pillow"},
            "isosphere": isosphere(source, views, canvas=canvas, whole=True),
            "isosphere, canvas 256": isosphere(source, views, canvas=256, whole=True),
            "isosphere, from the disk": isosphere(
                source,
                views,
                canvas=canvas,
                whole=True,
                cache=DecodedCache(place / f"{views}", keys, 2**34),
            ),
            "isosphere, squares": isosphere(source, views, canvas=canvas, whole=False),
            "isosphere, squares, canvas 256": isosphere(source, views, canvas=256, whole=False),
        }
    jobs["decode"] = {
        "ImageFolder": lambda epoch: [np.asarray(found["Pillow"](body)) for body in bodies],
        **{
            name: lambda epoch, decode=decode: [decode(body) for body in bodies]
            for name, decode in found.items()
            if name != "Pillow"
        },
        "isosphere": lambda epoch: [source.read(i) for i in range(len(bodies))],
    }
    return jobs


def measure(job: str, contenders: dict[str, Reader], count: int, rounds: int) -> list[dict[str, Any]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, read in contenders.items():
            torch.manual_seed(0)
            start = time.process_time()
            read(0)
            if number:  # the first warms caches up
                seconds[name].append((time.process_time() - start) / count)
    rows = []
    for name, times in seconds.items():
        ratios = [base / t for base, t in zip(seconds["ImageFolder"], times, strict=True)]
        rows.append(
            {
                "job": job,
                "reader": name,
                "images_per_second": round(1 / min(times)),
                "ratio": round(min(seconds["ImageFolder"]) / min(times), 2),
                "low": round(min(ratios), 2),
                "high": round(max(ratios), 2),
            }
        )
    return rows


def main() -> None:
    options: argparse.ArgumentParser = parser(__doc__)
    options.add_argument("--folder", type=Path, help="of JPEG files, instead of synthetic photographs")
    options.add_argument("--images", type=count, default=32)
    options.add_argument("--rounds", type=count, default=5)
    options.add_argument("--records", action="store_true", help=f"write {RECORDS.name}")
    a = options.parse_args()
    torch.set_num_threads(1)
    bodies = (
        made_files(a.images)
        if a.folder is None
        else [p.read_bytes() for p in sorted(a.folder.rglob("*.jpg"))[: a.images]]
    )
    packages = ", ".join(map(version_of, ("torch", "torchvision", "pillow", "simplejpeg", "PyTurboJPEG")))
    versions = f"{packages}; {torch.backends.cpu.get_cpu_capability()}, one thread; best of {a.rounds} rounds"
    print(f"{len(bodies)} files of {np.mean([len(b) for b in bodies]) / 1000:.0f} kB; {versions}")
    table = Table(RECORDS, ("job", "reader"), ("images_per_second", "ratio", "low", "high", "versions"))
    with tempfile.TemporaryDirectory() as place:
        for job, contenders in readers(bodies, Path(place)).items():
            print(f"\n{job:<32}{'images/s':>10}{'/ ImageFolder':>15}{'(range)':>14}")
            for row in measure(job, contenders, len(bodies), a.rounds):
                print(
                    f"  {row['reader']:<30}{row['images_per_second']:>10}{row['ratio']:>15.2f}"
                    f"{row['low']:>8.2f} to {row['high']:.2f}"
                )
                if a.records:
                    table.append({**row, "versions": versions})


if __name__ == "__main__":
    main()
