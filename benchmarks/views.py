"""How many views a second does one core make, beside lightly, torchvision v2 and kornia doing the same job?

    python benchmarks/views.py                    # 32 px from 32 px, 96 and 32 px from 128 px
    python benchmarks/views.py --case 128:96 --rounds 9 --images 64

The job is SimCLR's: a random resized crop of .08 to 1 of the area, a flip, colour jitter, grey, a blur on
half of the views, normalisation; from uint8 images in memory (PIL images for lightly, which asks for them) to
float tensors. Every maker runs in every round, on one thread. Times are the processor's, so that other work
on the machine counts little: views/s of the best and of the median round, and the ratio of medians
to lightly's.
Makers that are not installed or fail are named with the reason.
"""

import platform
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from experiments.command import count, number, parser, version_of
from isosphere.data import IMAGENET_MEAN, IMAGENET_STD, Views, recipe

Maker = Callable[[], int]  # makes the views of all images once and says how many


def photographs(n: int, side: int) -> Tensor:
    """Random images with the spectrum of photographs, as uint8."""
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.fft.fft2(torch.randn(n, 3, side, side, generator=generator))
    frequency = torch.fft.fftfreq(side).square()
    fields = torch.fft.ifft2(spectrum / (frequency[:, None] + frequency + side**-2).sqrt()).real
    return ((0.5 + 0.2 * fields / fields.std((2, 3), keepdim=True)).clamp(0, 1) * 255).round().to(torch.uint8)


def isosphere(images: Tensor, size: int, blur: float, rounds: int) -> Maker:
    law = recipe(
        "crops", size, scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=blur
    )
    views, index = Views(law), torch.arange(len(images))
    epochs = iter(range(10 * rounds + 10))
    return lambda: sum(len(v) for v in views(images, index=index, epoch=next(epochs), seed=0))


def lightly(images: Tensor, size: int, blur: float, rounds: int) -> Maker:
    from lightly.transforms.simclr_transform import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image

    pictures = [to_pil_image(image) for image in images]
    transform = SimCLRTransform(input_size=size, gaussian_blur=blur)
    return lambda: sum(len(transform(picture)) for picture in pictures)


def torchvision(images: Tensor, size: int, blur: float, rounds: int) -> Maker:
    import torchvision.transforms.v2 as T

    transform = T.Compose(
        [
            T.RandomResizedCrop(size, antialias=True),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            T.RandomGrayscale(0.2),
            T.RandomApply([T.GaussianBlur(5, (0.1, 2.0))], blur),
            T.ToDtype(torch.float32, scale=True),
            T.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD)),
        ]
    )
    return lambda: sum(len([transform(image), transform(image)]) for image in images)


def kornia(images: Tensor, size: int, blur: float, rounds: int) -> Maker:
    import kornia.augmentation as K

    steps = [
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((5, 5), (0.1, 2.0), p=blur),
        K.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    ]
    try:
        torch.nn.Sequential(*steps)(images[:4] / 255)
    except Exception:  # version 0.9.0 fails in RandomGrayscale; without it the comparison favours kornia
        del steps[3]
    transform = torch.nn.Sequential(*steps)

    def make() -> int:
        batch = images / 255
        return len(transform(batch)) + len(transform(batch))

    return make


def measure(case: tuple[int, int], n: int, rounds: int, blur: float) -> None:
    source, size = case
    images = photographs(n, source)
    makers: dict[str, Maker] = {}
    for build in (isosphere, lightly, torchvision, kornia):
        try:
            maker = build(images, size, blur, rounds)
            maker()
            makers[build.__name__] = maker
        except Exception as error:
            print(f"  {build.__name__}: not measured ({type(error).__name__}: {error})")
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, maker in makers.items():
            repeats = 5 if name == "isosphere" else 1  # so that its rounds are long enough to time
            start = time.process_time()
            views = sum(maker() for _ in range(repeats))
            seconds[name].append((time.process_time() - start) / views)
    print(f"\n{source} px -> {size} px, {n} images, two views each, blur {blur:g}, {rounds} rounds")
    print(f"  {'':<12}{'best views/s':>14}{'median views/s':>16}{'median / lightly':>18}")
    base = statistics.median(seconds["lightly"]) if "lightly" in seconds else float("nan")
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"  {name:<12}{1 / min(times):>14,.0f}{1 / middle:>16,.0f}{base / middle:>18.1f}")


def parse_case(text: str) -> tuple[int, int]:
    source, _, size = text.partition(":")
    return int(source), int(size)


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--case", type=parse_case, action="append", help="SOURCE:SIZE in pixels; may be repeated"
    )
    options.add_argument("--images", type=count, default=128)
    options.add_argument("--rounds", type=count, default=7)
    options.add_argument(
        "--blur", type=number, action="append", help="share of blurred views (default: 0.5 and 0)"
    )
    arguments = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = ("torch", "torchvision", "lightly", "kornia")
    print(f"Python {platform.python_version()}, " + ", ".join(map(version_of, names)))
    print(f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    for case in arguments.case or [(32, 32), (128, 96), (128, 32)]:
        for blur in arguments.blur or (0.5, 0.0):
            measure(case, arguments.images, arguments.rounds, blur)


if __name__ == "__main__":
    main()
