"""Images in an .npz or .npy file of numpy."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError

from .arrays import ArraySource
from .labels import class_positions, one_label_each
from .layout import no_test_part
from .source import Split

__all__ = ["open_array_file"]

_TRAIN = {"x_train": "y_train", "X_train": "y_train", "train_images": "train_labels"}
_TEST = {"x_test": "y_test", "X_test": "y_test", "test_images": "test_labels"}
_VALIDATION = {"x_val": "y_val", "X_val": "y_val", "val_images": "val_labels"}
_WHOLE = {"images": "labels", "x": "y", "X": "y", "data": "labels"}
_CLASS_NAMES = ("class_names", "classes", "label_names")
_EXPECTED = (
    "expected x_train (and perhaps y_train, x_test, y_test, class_names), or images (and perhaps labels), "
    "images of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w)"
)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class _Part:
    """One part of a split: the names of its arrays, and its labels (None where it has none)."""

    images: str
    labels: NDArray | None


def open_array_file(file: Path, *, split: Split = None) -> ArraySource:
    """Open the images of an .npz, or of an .npy that holds one array of them; pickles are never loaded.

    Names that are understood: ``x_train``, ``y_train``, ``x_test``, ``y_test``, ``class_names``; ``x_val``
    and ``y_val``, the test part where there is no ``x_test``; ``images``, ``labels``; ``x``, ``y``;
    ``train_images``, ``train_labels`` and so on. Labels are integers or text, negative or absent for none.

    Raises: UsageError if the file, its names, shapes or numbers are something else.
    """
    try:
        if file.suffix.lower() != ".npy":
            return _open_npz(file, split)
        if split == "test":
            raise no_test_part(str(file))
        images = np.load(file, allow_pickle=False)
        if not isinstance(images, np.ndarray):
            raise ValueError("it is an .npz by its content: rename it")
        return ArraySource(images, name=file.stem)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        what = "it holds pickled objects, which can run code" if "ickle" in str(error) else str(error)
        raise UsageError(
            f"{file} cannot be used: {what}. Write it with numpy.savez(FILE, x_train=IMAGES)."
        ) from error


def _headers(file: Path) -> dict[str, _Header]:
    """Shape and type of every array of an .npz, without reading the numbers."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                if np.lib.format.read_magic(stream) == (1, 0):
                    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                else:
                    shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
            found[member.removesuffix(".npy")] = _Header(shape, dtype)
    return found


def _open_npz(file: Path, split: Split) -> ArraySource:
    headers = _headers(file)
    train, test, validation, whole = (
        next((pair for pair in names.items() if pair[0] in headers), None)
        for names in (_TRAIN, _TEST, _VALIDATION, _WHOLE)
    )
    unused = validation if train and test else None
    pairs = (train, test or validation) if train else (whole, None)
    if pairs[0] is None:
        held = ", ".join(f"{k} {v.shape}" for k, v in list(headers.items())[:8]) or "no arrays"
        hint = ". Decode its JPEG bodies to plain arrays first" if "jpeg_header" in headers else ""
        raise ValueError(f"it holds {held}; {_EXPECTED}{hint}")
    if split == "test" and pairs[1] is None:
        raise no_test_part(str(file))
    with np.load(file, allow_pickle=False) as arrays:
        # The labels of both parts are read whichever is opened: they share one list of classes.
        parts = [
            _Part(x, one_label_each(y, arrays[y], headers[x].shape[0]) if y in headers else None)
            for x, y in filter(None, pairs)
        ]
        stated = next((arrays[k] for k in _CLASS_NAMES if k in headers), None)
        chosen = {"train": parts[:1], "test": parts[1:], None: parts}[split]
        images = [arrays[part.images] for part in chosen]
    table, class_names = class_positions([p.labels for p in parts if p.labels is not None], stated)
    labels = [
        np.full(len(x), -1) if p.labels is None else np.array([table.get(v, -1) for v in p.labels.tolist()])
        for p, x in zip(chosen, images, strict=True)
    ]
    return ArraySource(
        images[0] if len(images) == 1 else np.concatenate(images),
        name=file.stem,
        labels=np.concatenate(labels),
        class_names=class_names,
        paths=[f"{p.images}/{i}" for p, x in zip(chosen, images, strict=True) for i in range(len(x))],
        has_test_split=pairs[1] is not None,
        left_out=[(unused[0], f"{headers[unused[0]].shape[0]} images outside both parts")] if unused else [],
    )
