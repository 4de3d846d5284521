"""Data sets that other packages know: the digits of scikit-learn, and torchvision's by name and path."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError, nearest

from ._arrays import ArraySource
from ._home import expanded
from ._source import Split

_DIGITS_TRAIN = 1437


def open_digits(*, split: Split = None) -> ArraySource:
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: the first 1,437 train, 360
    test.

    Raises: UsageError if scikit-learn is not installed.
    """
    pixels, labels = _digits()
    part = {"train": slice(0, _DIGITS_TRAIN), "test": slice(_DIGITS_TRAIN, None), None: slice(None)}[split]
    positions = np.arange(len(labels))[part]
    return ArraySource(
        np.rint(pixels[part] * (255 / 16)).astype(np.uint8),
        name="digits",
        labels=labels[part],
        class_names=[str(k) for k in range(10)],
        paths=[f"digits/{i}" for i in positions],
        has_test_split=True,
    )


@cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels 0 to 16 and labels, from the file of scikit-learn: to import the package takes seconds."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise UsageError(
            "The built-in 'digits' comes with scikit-learn, which is not installed. Type: pip install "
            "scikit-learn; or use textures:wood, which needs nothing."
        )
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    pack: Any = load_digits()
    return pack.images, pack.target.astype(np.int64)


def _by_flag(name: str) -> Callable[[Path, str], Any]:
    def build(root: Path, split: str) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, name)(root, train=split == "train", download=False)

    return build


def _by_name(name: str) -> Callable[[Path, str], Any]:
    def build(root: Path, split: str) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, name)(root, split=split, download=False)

    return build


def _stl10(root: Path, split: str) -> Any:
    return _by_name("STL10")(root, "train+unlabeled" if split == "train" else split)


TORCHVISION: dict[str, Callable[[Path, str], Any]] = {
    "CIFAR10": _by_flag("CIFAR10"),
    "CIFAR100": _by_flag("CIFAR100"),
    "FashionMNIST": _by_flag("FashionMNIST"),
    "KMNIST": _by_flag("KMNIST"),
    "MNIST": _by_flag("MNIST"),
    "STL10": _by_name("STL10"),
    "STL10-unlabeled": _stl10,
    "SVHN": _by_name("SVHN"),
}
"""Data sets of arrays that torchvision reads; those of image files are opened as folders.

``STL10-unlabeled`` trains on the 5,000 labelled and the 100,000 unlabelled images (label -1) together.
"""


def open_torchvision(spec: str, *, split: Split = None) -> ArraySource:
    """Open ``NAME:PATH``, a data set of torchvision that lies on disk; nothing is downloaded.

    Raises: UsageError for an unknown name, or where the files are absent or damaged.
    """
    name, _, path = spec.partition(":")
    if name not in TORCHVISION:
        known = ", ".join(TORCHVISION)
        raise UsageError(
            f"torchvision:{name} is not one of {known}.{nearest(name, TORCHVISION)} Data sets of image files "
            "are opened as folders: give the path of the folder."
        )
    root = expanded(path or ".")
    if not path or not root.is_dir():
        raise UsageError(
            f"torchvision:{spec} names no folder; expected torchvision:{name}:PATH with the folder that "
            "torchvision calls root."
        )
    parts = [p for p in ("train", "test") if split in (p, None)]
    try:
        packs = [TORCHVISION[name](root, part) for part in parts]
    except (RuntimeError, OSError, ImportError, ValueError) as error:
        theirs = name.partition("-")[0]
        said = str(error).split("\n")[0].replace(" You can use download=True to download it", "")
        raise UsageError(
            f"torchvision:{spec} cannot be opened: {said} To fetch the files, type: python -c 'from "
            f'torchvision.datasets import {theirs}; {theirs}("{root}", download=True)\'.'
        ) from error
    labels = [np.asarray(p.targets if hasattr(p, "targets") else p.labels, dtype=np.int64) for p in packs]
    images = np.concatenate([np.asarray(p.data) for p in packs])
    class_names = getattr(packs[0], "classes", None) or [
        str(k) for k in range(max(x.max() for x in labels) + 1)
    ]
    return ArraySource(
        images,
        name=name,
        labels=np.concatenate(labels),
        class_names=class_names,
        paths=[f"{name}/{part}/{i}" for part, x in zip(parts, labels, strict=True) for i in range(len(x))],
        has_test_split=True,
    )
