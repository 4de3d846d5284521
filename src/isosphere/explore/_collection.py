"""The images of a page with their embeddings by every layer: what is near what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere.data import WHOLE, Source, centre_view, digests
from isosphere.deploy import Index, rows_seen, source_of
from isosphere.errors import RunError
from isosphere.evaluation import Look, Progress
from isosphere.explore._once import Once
from isosphere.reductions import nearest_neighbours
from isosphere.workflows import Duplicates, Run

NEIGHBOURS = 24
"""Neighbours of an image that are shown."""


@dataclass(frozen=True)
class Found:
    """Rows, most like first, and their cosines to what was asked for."""

    rows: list[int]
    cosines: list[float]


class Collection:
    """Images, row by row, and their index by each layer, opened when it is first asked for.

    Args:
        source: the images of the rows, in their order.
        indexes: how the index of a layer is opened; the first is that of the map. All have the same rows.
        title: what the page is about, in a few words.
        search: what finds the rows most like the picture in a file, as :meth:`isosphere.Run.search`; None: nothing.
        duplicates: what finds near-duplicates, as :meth:`isosphere.Run.dedup` at the threshold that it chooses.
        scores: how surprising the method itself finds each image, ``(n,)``; None where it has no such score.
        skipped: images that could not be read, with the reasons.
    """

    def __init__(
        self,
        source: Source,
        indexes: Mapping[str, Callable[[], Index]],
        *,
        title: str = "",
        search: Callable[[Path, Index, int], Found] | None = None,
        duplicates: Callable[[], Duplicates] | None = None,
        scores: Callable[[], NDArray[np.float32]] | None = None,
        skipped: list[tuple[str, str]] | None = None,
    ) -> None:
        self.source, self.title, self.searching, self.scores = source, title, search, scores
        self.duplicates = duplicates
        self.skipped = skipped or []
        self.layers = tuple(indexes)
        self.once = Once()
        self._indexes = dict(indexes)

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of_run(
        cls, run: Run, data: Any, *, layer: str | None = None, progress: Progress | None = None
    ) -> "Collection":
        """The readable images of `data` by the layers of a run; `layer`: that of the map, by default the one that
        :meth:`isosphere.Run.search` takes.
        """
        source = source_of(data)
        run, _ = run.settled(source)
        first = run.search_layer if layer is None else run.check_layer(layer)
        index = run.index(source, layer=first, progress=progress)
        assert index.positions is not None
        shown = source.subset(index.positions).read_as(run.reading)

        def opened(name: str) -> Index:
            found = run.index(source, layer=name)
            if found.paths != index.paths:
                raise RunError(
                    "the images have changed since this page was opened: start isosphere explore again."
                )
            return found

        others = {name: partial(opened, name) for name in run.layers if name != first}
        looking = run.fitted(WHOLE)
        return cls(
            shown,
            {first: lambda: index, **others},
            title=f"{run.called} · {source.name}",
            search=partial(_search, run),
            duplicates=partial(run.dedup, source),
            scores=partial(_surprise, looking, shown) if hasattr(run.method, "scores") else None,
            skipped=index.skipped,
        )

    def index(self, layer: str | None = None) -> Index:
        """The index of a layer, that of the map if None. Raises: KeyError if there is none."""
        name = self.layers[0] if layer is None else layer
        return self.once.get(("index", name), self._indexes[name])

    def unit(self, layer: str | None = None) -> Tensor:
        """Unit rows ``(n, d)``."""
        return self.index(layer).unit

    def neighbours(self, row: int, layer: str | None = None, k: int = NEIGHBOURS) -> Found:
        """The k other rows with the largest cosine to a row, best first; of equals the earlier row."""
        x = self.unit(layer)
        cosines = x @ x[row]  # once over the rows, which were checked when the index was made
        cosines[row] = -torch.inf
        values, rows = cosines.topk(min(k, len(x) - 1))
        order = rows.argsort()
        order = order[values[order].argsort(descending=True, stable=True)]
        return Found(rows[order].tolist(), values[order].clamp(-1, 1).tolist())

    def graph(self, layer: str | None = None, k: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
        """Cosines and rows of the k nearest other rows of each row: ``(n, k)``, fewer of fewer images."""

        def made() -> tuple[Tensor, Tensor]:
            x = self.unit(layer)
            most = max(1, min(k, len(x) - 1))
            return nearest_neighbours(x, x, most, exclude=torch.arange(len(x)))

        return self.once.get(("graph", layer or self.layers[0], k), made)

    def search(self, picture: Path, layer: str | None = None, k: int = NEIGHBOURS) -> Found:
        """The rows most like the picture in a file. Raises: UsageError if it cannot be read."""
        assert self.searching is not None
        return self.searching(picture, self.index(layer), k)

    def copies(self, threshold: float | None = None) -> Duplicates:
        """Near-duplicates at a threshold, that which is chosen on copies of the images if None: what
        :meth:`isosphere.Run.dedup` finds. Its rows are those of :meth:`row_numbers`.
        """
        assert self.duplicates is not None
        chosen = self.once.get(("copies", None), self.duplicates)
        if threshold is None or threshold == chosen.threshold:
            return chosen
        return self.once.get(("copies", threshold), lambda: chosen.at(threshold))

    def row_numbers(self, found: Duplicates) -> NDArray[np.int64]:
        """The rows of this collection that were compared: links to a file that is there already were not."""
        own, compared = self.index().positions, found.compared.index.positions
        assert own is not None
        assert compared is not None
        return np.searchsorted(own, compared)

    @property
    def digests(self) -> NDArray[np.int64]:
        """What each image is known by wherever it lies: int64 ``(n, 2)``."""
        return self.once.get("digests", lambda: digests(self.source))


def _search(run: Run, picture: Path, index: Index, k: int) -> Found:
    matches = run.search([picture], index, k=k)[0]
    return Found([match.row for match in matches], [match.similarity for match in matches])


def _surprise(run: Run, source: Source) -> NDArray[np.float32]:
    """Minus the evidence lower bound of each image by the method's own posterior, nan where it cannot be read."""
    encoder, method = run.encoder, run.method

    def see(pixels: Any, index: Tensor) -> dict[str, Tensor]:
        squares = pixels if isinstance(pixels, Tensor) else pixels.squares()
        view = centre_view(squares, run.size, tuple(encoder.mean), tuple(encoder.std))
        return {"elbo": method.scores(view)["elbo"]}  # pyright: ignore[reportCallIssue]

    positions = torch.arange(len(source))
    found = rows_seen(
        source.read_as(run.reading),
        positions,
        Look(see, method),
        canvas=run.canvas,
        device=run.device,
        failed={},
    )
    values = np.full(len(source), np.nan, np.float32)
    values[found["positions"].numpy()] = -found["elbo"].cpu().float().numpy()
    return values
