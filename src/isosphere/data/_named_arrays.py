"""Which arrays of a file are images, labels and class names, by their names: for .npz and HDF5 alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._labels import class_positions, one_label_each, positions_of, require_one_each
from ._layout import no_test_part
from ._source import Split

_TRAIN = ("x_train", "X_train", "train_images", "train/images")
_TEST, _VALIDATION = ([name.replace("train", part) for name in _TRAIN] for part in ("test", "val"))
_WHOLE = ("images", "image", "x", "X", "data")
_LABELS = ("ans", "labels", "label", "y", "Y")
_CLASS_NAMES = ("class_names", "classes", "label_names")


@dataclass(frozen=True)
class NamedArrays:
    """The arrays of images that are asked for: how many images each has, their labels as they are stated and where
    these stand in ``class_names``."""

    counts: dict[str, int]
    stated: dict[str, NDArray | None]
    table: dict[int | str, int]
    class_names: list[str]
    has_test_split: bool
    left_out: list[tuple[str, str]]

    def facts(self) -> dict[str, Any]:
        """What a `Source` is told of all these images; only once they are there, for a header may promise too many."""
        labels = [positions_of(self.stated[name], self.table, n) for name, n in self.counts.items()]
        return {
            "paths": [f"{name}/{i}" for name, n in self.counts.items() for i in range(n)],
            "labels": np.concatenate(labels),
            "class_names": self.class_names,
            "has_test_split": self.has_test_split,
            "left_out": self.left_out,
        }


def name_arrays(
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], NDArray],
    split: Split,
    file: str,
    *,
    known_classes: Mapping[int, Sequence[str]] | None = None,
) -> NamedArrays:
    """Find ``x_train``, ``y_train``, ``x_test``, ``y_test``, ``x_val``, ``y_val``; ``train_images``, ``train_labels``
    and so on, ``train/images``, ``train/labels`` and so on; or ``images``, ``x`` or ``data`` with ``labels``, ``ans``
    (Galaxy10) or ``y``; and ``class_names``. ``x_val`` is the test part where there is no ``x_test``; else it is in
    neither, and taken where everything is asked for.

    The labels of both parts are read whichever is asked for: they share one list of classes.

    Args:
        known_classes: class names by the width of the images, where the file names none.

    Raises: ValueError for other names, or labels that are something else; UsageError for a missing test part.
    """
    train, test, validation, whole = (
        next((name for name in names if name in shapes), None)
        for names in (_TRAIN, _TEST, _VALIDATION, _WHOLE)
    )
    first, second = (train, test or validation) if train else (whole, None)
    if first is None:
        held = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:8]) or "no arrays"
        raise ValueError(
            f"it holds {held}; expected x_train (and perhaps y_train, x_test, y_test, class_names), or images (and "
            "perhaps labels), images of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w)"
        )
    if split == "test" and second is None:
        raise no_test_part(file)
    third = validation if test else None
    every = [name for name in (first, second, third) if name]
    labels = {name: _labels(name, shapes, read) for name in every if name != third or split is None}
    stated = next((read(name) for name in _CLASS_NAMES if name in shapes), None)
    if stated is None and known_classes and len(shapes[first]) > 1:
        stated = np.array(known_classes.get(shapes[first][1], ()))
    table, class_names = class_positions([x for x in labels.values() if x is not None], stated)
    chosen = {"train": every[:1], "test": every[1:2], None: every}[split]
    return NamedArrays(
        {name: shapes[name][0] for name in chosen},
        labels,
        table,
        class_names,
        second is not None,
        [(third, f"{shapes[third][0]} images outside both parts")] if third and split else [],
    )


def _labels(
    images: str, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], NDArray]
) -> NDArray | None:
    stem = images.rpartition("/")[0]
    if images in _WHOLE:
        names: Sequence[str] = _LABELS
    elif stem:
        names = [f"{stem}/{word}" for word in _LABELS]
    else:
        names = [images.lower().replace("x_", "y_").replace("images", "labels")]
    found = next((name for name in names if name in shapes), None)
    if found is None:
        return None
    require_one_each(found, shapes[found], shapes[images][:1])
    return one_label_each(found, read(found), shapes[images][0])
