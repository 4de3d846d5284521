"""From the labels that a file states to positions in a list of classes."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def require_one_each(name: str, shape: tuple[int, ...], images: tuple[int, ...]) -> None:
    """Refuse labels of another number than that of the images. Raises: ValueError."""
    if shape[:1] != images:
        raise ValueError(f"{name} has shape {shape} for {images[0]} images; expected {images}")


def one_label_each(name: str, labels: NDArray, n: int) -> NDArray | None:
    """One label an image; a column is flattened, and several labels an image are not a class."""
    require_one_each(name, labels.shape, (n,))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim > 1:
        return None
    if labels.dtype.kind == "O":  # a column of pandas
        plain = np.array(labels.tolist()) if len({type(value) for value in labels.tolist()}) == 1 else labels
        labels = plain if plain.shape == labels.shape else labels
    if labels.dtype.kind == "f" and np.array_equal(labels, np.rint(labels)) and (abs(labels) < 2**62).all():
        return labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise ValueError(f"{name} holds {labels.dtype}; expected one integer or one word for each image")
    return labels


def class_positions(labels: list[NDArray], stated: NDArray | None) -> tuple[dict[int | str, int], list[str]]:
    """Positions of the labels in a list of class names, which keeps the order that the file states."""
    values = {v for part in labels for v in part.tolist()}
    words = sorted(v for v in values if isinstance(v, str))
    numbers = sorted(v for v in values if not isinstance(v, str) and v >= 0)
    if words and numbers:
        raise ValueError("its labels are numbers in one part and words in the other")
    names = [str(c) for c in stated.ravel()] if stated is not None else []
    if words:
        names = names or words
        return {c: k for k, c in enumerate(names)}, names
    if numbers and numbers[-1] < len(names):
        return {k: k for k in range(len(names))}, names
    return {v: k for k, v in enumerate(numbers)}, [str(v) for v in numbers]


def positions_of(labels: NDArray | None, table: dict[int | str, int], count: int) -> NDArray[np.int64]:
    """Positions of ``count`` labels in the list of classes, -1 for those that are not in it or unknown."""
    if labels is None:
        return np.full(count, -1, np.int64)
    return np.array([table.get(value, -1) for value in labels.tolist()], dtype=np.int64)


def labels_of_texts(texts: Sequence[str], stated: NDArray | None) -> tuple[NDArray[np.int64], list[str]]:
    """Positions of labels that are written as text in a list of classes; numbers where all are numbers, else words,
    as they also are where two are written for one number (1, 01).
    """
    written = {text for text in texts if text}
    numbers = all(re.fullmatch(r"-?\d{1,18}", text) for text in written)
    numbers = numbers and len({int(text) for text in written}) == len(written)
    convert: Callable[[str], int | str] = int if numbers else str
    table, class_names = class_positions([np.array([convert(t) for t in texts if t])], stated)
    return np.array([table.get(convert(t), -1) if t else -1 for t in texts], dtype=np.int64), class_names


def alike_classes(names: Iterable[str]) -> str:
    """A sentence on classes that somebody may have meant as one, since they differ in capitals, blanks or how a number
    or an accent is written; empty where there are none.
    """
    spelt: dict[str | float, list[str]] = {}
    for name in dict.fromkeys(names):
        spelt.setdefault(_meant(name), []).append(name)
    alike = [" and ".join(f"'{name}'" for name in group) for group in spelt.values() if len(group) > 1]
    some = ", ".join(alike[:3]) + ", ..." * (len(alike) > 3)
    return f"Classes that are written nearly alike count as different ones: {some}." if alike else ""


def _meant(name: str) -> str | float:
    if re.fullmatch(r"\s*[-+]?\d{1,15}(\.\d*)?\s*", name):
        return float(name)
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
