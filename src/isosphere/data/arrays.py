"""Images that are already arrays: in memory, or in an .npz or .npy file."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isosphere.errors import UsageError

from .layout import no_test_part
from .source import Source, Split

__all__ = ["ArraySource", "open_array_file"]

_IMAGES = {  # per part, the names of image arrays that are understood, and of the labels beside them
    "train": {"x_train": "y_train", "train_images": "train_labels", "X_train": "y_train"},
    "test": {
        "x_test": "y_test",
        "test_images": "test_labels",
        "X_test": "y_test",
        "x_val": "y_val",
        "val_images": "val_labels",
    },
    "all": {"images": "labels", "x": "y", "X": "y", "data": "labels"},
}
_CLASS_NAMES = ("class_names", "classes", "label_names")
_EXPECTED = (
    "expected x_train (and perhaps y_train, x_test, y_test, class_names), or images (and perhaps labels); each "
    "image array of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w)"
)


class ArraySource(Source):
    """Images of one array: (n, h, w) grey, (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels.

    Numbers may be uint8, uint16 (divided by 257), bool, or floats in [0, 1] or [0, 255]. The array is kept as
    uint8, channels last; transparency is laid over white.

    Raises: ValueError if shape or numbers are something else.
    """

    def __init__(
        self,
        images: NDArray,
        *,
        name: str,
        labels: NDArray[np.int64] | None = None,
        class_names: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        has_test_split: bool = False,
    ) -> None:
        self.images = _to_uint8(_channels_last(images))
        super().__init__(
            name,
            paths if paths is not None else [f"{name}/{i}" for i in range(len(images))],
            labels=labels,
            class_names=class_names,
            has_test_split=has_test_split,
        )

    def image(self, i: int, *, at_least: int | None = None) -> Image.Image:
        return Image.fromarray(np.broadcast_to(self.images[i], (*self.images.shape[1:3], 3)))

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> "ArraySource":
        chosen = np.asarray(indices, dtype=np.int64)
        return ArraySource(
            self.images[chosen],
            name=self.name,
            labels=self.labels[chosen],
            class_names=self.class_names,
            paths=[self.paths[i] for i in chosen],
            has_test_split=self.has_test_split,
        )


def _channels_last(images: NDArray) -> NDArray:
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[3] in (1, 3, 4):
        return images
    if images.ndim == 4 and images.shape[1] in (1, 3, 4):
        return np.moveaxis(images, 1, 3)
    raise ValueError(
        f"the images have shape {images.shape}; expected (n, h, w), (n, h, w, c) or (n, c, h, w) with c = 1, 3 "
        "or 4"
    )


def _to_uint8(images: np.ndarray) -> NDArray[np.uint8]:
    if 0 in images.shape:
        raise ValueError(f"the images have shape {images.shape}; expected at least one image of one pixel")
    if images.dtype == np.uint8:
        scaled = images
    elif images.dtype == np.bool_:
        scaled = images.astype(np.uint8) * np.uint8(255)
    elif images.dtype.kind in "iuf":
        low, high = float(images.min()), float(images.max())
        if images.dtype.kind == "f":
            top = 1.0 if high <= 1 else 255.0
        else:
            top = 65535.0 if images.dtype == np.uint16 else 255.0
        if not (low >= 0 and high <= top):
            raise ValueError(
                f"the images hold {images.dtype} from {low:g} to {high:g}; expected bytes, or floats in "
                "[0, 1] or [0, 255]"
            )
        scaled = np.empty(images.shape, np.uint8)
        for i in range(len(images)):  # one image at a time: the whole array in floats may not fit
            scaled[i] = np.rint(images[i].astype(np.float64) * (255.0 / top))
    else:
        raise ValueError(f"the images hold {images.dtype}; expected bytes, or floats in [0, 1]")
    if scaled.shape[-1] == 4:
        colour, alpha = scaled[..., :3].astype(np.uint16), scaled[..., 3:].astype(np.uint16)
        scaled = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return scaled


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


def _headers(file: Path) -> dict[str, _Header]:
    """Shape and type of every array of an .npz, without reading the numbers."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(stream)
            found[member.removesuffix(".npy")] = _Header(shape, dtype)
    return found


def open_array_file(file: Path, *, split: Split = None) -> ArraySource:
    """Open the images of an .npz (or of an .npy that holds one array of them); pickled objects are never
    loaded.

    Names that are understood: ``x_train``, ``y_train``, ``x_test``, ``y_test``, ``class_names``; the same
    with ``val`` where ``test`` is absent; ``images``, ``labels``; ``x``, ``y``; ``train_images``,
    ``train_labels``, ...

    Raises: UsageError if the file, its names, shapes or numbers are something else.
    """
    try:
        if file.suffix.lower() == ".npy":
            if split == "test":
                raise no_test_part(str(file))
            return ArraySource(np.load(file, allow_pickle=False), name=file.stem)
        return _open_npz(file, split)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        what = "it holds pickled objects, which can run code" if "ickle" in str(error) else str(error)
        raise UsageError(
            f"{file} cannot be used: {what}. Write it with numpy.savez(FILE, x_train=...)."
        ) from error


def _open_npz(file: Path, split: Split) -> ArraySource:
    headers = _headers(file)
    train, test, everything = (
        next(((x, y) for x, y in _IMAGES[part].items() if x in headers), None)
        for part in ("train", "test", "all")
    )
    if everything and not train:
        train, test = everything, None
    if not train:
        held = ", ".join(f"{k} {v.shape}" for k, v in list(headers.items())[:8]) or "no arrays"
        hint = ". Expand its JPEG bodies to plain arrays first" if "jpeg_header" in headers else ""
        raise ValueError(f"it holds {held}; {_EXPECTED}{hint}")
    if split == "test" and not test:
        raise no_test_part(str(file))
    chosen = [
        part for part, wanted in ((train, split != "test"), (test, split != "train")) if part and wanted
    ]
    with np.load(file, allow_pickle=False) as arrays:
        images, labels, paths = [], [], []
        for x, y in chosen:
            images.append(arrays[x])
            labels.append(_labels(y, arrays[y] if y in headers else None, len(images[-1])))
            paths += [f"{x}/{i}" for i in range(len(images[-1]))]
        # Names of classes come from both parts, so that training and test labels mean the same.
        others = [
            _labels(y, arrays[y], headers[x].shape[0]) for x, y in (train, test or train) if y in headers
        ]
        stated = next((arrays[k] for k in _CLASS_NAMES if k in headers), None)
    numbers, class_names = _encode(labels, others, stated)
    return ArraySource(
        images[0] if len(images) == 1 else np.concatenate(images),
        name=file.stem,
        labels=numbers,
        class_names=class_names,
        paths=paths,
        has_test_split=test is not None,
    )


def _labels(name: str, labels: NDArray | None, n: int) -> NDArray | None:
    """One label an image, or None; a column is flattened, several labels an image are not a class."""
    if labels is None:
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if len(labels) != n:
        raise ValueError(f"{name} has {len(labels)} labels for {n} images")
    if labels.ndim != 1:
        return None
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            raise ValueError(
                f"{name} holds {labels.dtype} that are not whole numbers; expected one class a row"
            )
        return whole
    if labels.dtype.kind not in "iubU":
        raise ValueError(f"{name} holds {labels.dtype}; expected integers or text")
    return labels


def _encode(
    chosen: list[NDArray | None], every: list[NDArray | None], stated: NDArray | None
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Labels as positions in a list of class names; names that the file states keep their order."""
    if any(c is None for c in chosen):
        return None, []
    present = np.unique(np.concatenate([v for v in every if v is not None]))
    values = np.concatenate([c for c in chosen if c is not None])
    if values.dtype.kind != "U":
        known = present[present >= 0].astype(np.int64)  # negative: no label
        if stated is not None and len(known) and known[-1] < stated.size:
            names = [str(c) for c in stated.ravel()]
            return np.where(values < 0, -1, values).astype(np.int64), names
        position = np.searchsorted(known, values)
        return np.where(values < 0, -1, position).astype(np.int64), [str(k) for k in known]
    names = [str(c) for c in (stated.ravel() if stated is not None else present)]
    table = {c: k for k, c in enumerate(names)}
    return np.array([table.get(str(v), -1) for v in values], dtype=np.int64), names
