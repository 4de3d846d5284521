"""Where each image lies on the map, kept beside the run: UMAP takes minutes of many images."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from isosphere.atomic import atomic_file
from isosphere.errors import RunError
from isosphere.report import MAP_NOTES, MapKind, check_map, embed_plane
from isosphere.runs import tensor_identity


@dataclass(frozen=True)
class Plane:
    """Points ``(n, 2)`` of a map of this kind, and what may be read from it."""

    points: NDArray[np.float32]
    kind: MapKind

    @property
    def note(self) -> str:
        return MAP_NOTES[self.kind]


def usual_map() -> MapKind:
    """UMAP where it is installed, else principal components."""
    return "umap" if find_spec("umap") else "pca"


def plane_of(
    unit: Tensor,
    kind: str | None = None,
    *,
    folder: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Plane:
    """The map of unit rows ``(n, d)``; one of UMAP is kept in `folder`, and taken from there for the same rows.
    `progress`: as of :func:`isosphere.report.embed_plane`.

    Raises: UsageError for another kind, or UMAP where it is not installed.
    """
    chosen = usual_map() if kind is None else check_map(kind)
    if chosen == "pca" or folder is None:
        return Plane(_computed(unit, chosen, progress), chosen)
    file, identity = folder / "map-umap.npz", tensor_identity(unit)
    points = _read(file, identity, len(unit))
    if points is None:
        points = _computed(unit, chosen, progress)
        _write(file, identity, points)
    return Plane(points, chosen)


def _computed(
    unit: Tensor, kind: MapKind, progress: Callable[[int, int], object] | None
) -> NDArray[np.float32]:
    return embed_plane(unit, kind, progress=progress)[0].astype(np.float32)


def _read(file: Path, identity: str, count: int) -> NDArray[np.float32] | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            same = str(arrays["identity"]) == identity
            points = arrays["points"]
    except Exception:  # absent, cut short, another file: it can be made again
        return None
    sound = points.shape == (count, 2) and points.dtype == np.float32 and bool(np.isfinite(points).all())
    return points if same and sound else None


def _write(file: Path, identity: str, points: NDArray[np.float32]) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        with atomic_file(file) as handle:
            np.savez(handle, identity=np.asarray(identity), points=points)
    except (RunError, OSError):  # it costs time, not the page
        return
