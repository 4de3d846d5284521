"""Maps of embeddings in two dimensions: principal components, or UMAP where it is installed."""

import importlib
import io
import re
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isosphere.errors import UsageError, option

MapKind = Literal["pca", "umap"]

NOTES = {
    "pca": "Unit rows on their two directions of largest variance (principal components). Directions that carry "
    "little of the variance show little: an even spread has no best view.",
    "umap": "Unit rows by UMAP (15 neighbours by cosine, seed 0). It keeps neighbours together; the distances, "
    "sizes and gaps of clusters say nothing, and it makes clusters of what has none. Fewer than 16 images are "
    "shown by principal components.",
}
"""What to read from a map, and what not to."""

LEAST = 16
"""Rows from which UMAP has neighbours to go by; fewer are shown by principal components."""
_NEIGHBOURS = 15


def check_map(name: str) -> MapKind:
    """The kind of map of this name. Raises: UsageError if there is none, or UMAP is not installed."""
    if name == "pca":
        return "pca"
    if name != "umap":
        raise UsageError(f"{option('map')}: got '{name}', expected pca or umap.")
    if find_spec("umap") is None:
        raise UsageError(
            f"{option('map', 'umap')}: UMAP is not installed. Type: pip install umap-learn, or leave "
            f"{option('map')} out for principal components."
        )
    return "umap"


def embed_plane(
    x: Tensor, kind: MapKind = "pca", *, progress: Callable[[int, int], object] | None = None
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Rows in the plane, and the shares of variance of its axes, None for UMAP's, which mean nothing.

    Shape: ``(n, p)`` to float64 ``(n, 2)``. UMAP of fewer than 16 rows, or of rows that are all the same, gives
    way to principal components. Deterministic: UMAP runs on one thread from seed 0. `progress`: called with the epochs
    of UMAP that are done, and all of them.

    Raises: UsageError if UMAP is asked for and not installed.
    """
    check_map(kind)
    if kind == "pca" or len(x) < LEAST or bool((x == x[:1]).all()):
        return principal_plane(x)
    with warnings.catch_warnings(action="ignore"):  # of its compiler, and that one thread is used
        umap: Any = importlib.import_module("umap")
        model = umap.UMAP(
            n_components=2,
            n_neighbors=_NEIGHBOURS,
            min_dist=0.1,
            metric="cosine",
            random_state=0,
            n_jobs=1,
            **({} if progress is None else {"tqdm_kwds": _Epochs(progress).of_tqdm()}),
        )
        plane = np.asarray(model.fit_transform(x.float().numpy()), np.float64)
    # A row without neighbours is placed nowhere: it goes to the middle.
    return np.where(np.isfinite(plane), plane, np.nanmean(plane, axis=0)), None


class _Epochs(io.TextIOBase):
    """What UMAP writes of its epochs, by tqdm, as calls of `progress`."""

    def __init__(self, progress: Callable[[int, int], object]) -> None:
        self._progress = progress

    def of_tqdm(self) -> dict[str, Any]:
        """Options of tqdm by which it writes here."""
        return {"disable": False, "file": self, "bar_format": "{n}/{total}", "mininterval": 0.2}

    def write(self, text: str) -> int:
        if found := re.search(r"(\d+)/(\d+)", text):
            self._progress(int(found[1]), int(found[2]))
        return len(text)


def principal_plane(x: Tensor) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinates of the rows on the two directions of largest variance, and the shares of these.

    Shape: ``(n, p)`` to ``(n, 2)``. The sign of each direction is such that its largest coordinate is positive.
    """
    y = x.double() - x.double().mean(0)
    total = float(y.square().sum())
    if total == 0 or min(y.shape) < 2:
        return np.zeros((len(x), 2)), (0.0, 0.0)
    _, vectors = torch.linalg.eigh(y.T @ y)
    plane = y @ vectors[:, -2:].flip(1)
    largest = plane.gather(0, plane.abs().argmax(0, keepdim=True))
    plane = plane * torch.where(largest < 0, -1.0, 1.0)
    shares = plane.square().sum(0) / total
    return plane.numpy(), (float(shares[0]), float(shares[1]))
