"""What the page asks for, by name: plain values, the same for a server and for a folder of files."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from isosphere import __version__
from isosphere.deploy import named_keep
from isosphere.errors import UsageError
from isosphere.explore._collection import NEIGHBOURS, Collection, Found
from isosphere.explore._columns import as_json, cluster_column, clusters, column, column_names
from isosphere.explore._plane import Plane
from isosphere.statistics import farthest_first, typical_rows
from isosphere.tabular import encode_name
from isosphere.workflows import outlier_neighbours

LISTED = 200
"""Images of a list: outliers, typical ones, a diverse subset."""
MOST = 500
"""Images that can be asked for at a time."""
SHOWN = 8
"""Images of a cluster that are shown: those nearest to its centre."""


class MissingError(LookupError):
    """There is nothing of this name."""


class Resources:
    """What a page about a collection is made of. `meta`, `map`, `names`, `files`, `column/NAME`,
    `neighbours/LAYER/ROW`, `duplicates`, `outliers`, `typical`, `diverse`, `clusters`. `labels`: the file
    that labels are written to; `labelled`: the rows that have one; `unwritten`: why labels cannot be written. Names
    are in characters that UTF-8 has (``isosphere.tabular.encode_name``).
    """

    def __init__(
        self,
        collection: Collection,
        plane: Plane,
        *,
        labels: str = "",
        labelled: Callable[[], Iterable[int]] = tuple,
        unwritten: str = "",
    ) -> None:
        self.collection, self.plane, self.labels, self.labelled = collection, plane, labels, labelled
        self.unwritten = unwritten

    def get(self, name: str, query: Mapping[str, str] | None = None) -> Any:
        """A resource. Raises: MissingError; UsageError for a number out of range."""
        first, *rest = name.split("/")
        makers: dict[str, Any] = {
            "meta": self.meta,
            "map": self.map,
            "names": self.names,
            "files": self.files,
            "column": self.column,
            "neighbours": self.neighbours,
            "duplicates": self.duplicates,
            "outliers": self.outliers,
            "typical": self.typical,
            "diverse": self.diverse,
            "clusters": self.clusters,
        }
        takes = {"column": 1, "neighbours": 2}.get(first, 0)
        if first not in makers or len(rest) != takes:
            raise MissingError(name)
        return makers[first](*rest, **_numbers(first, query or {}))

    def meta(self) -> dict[str, Any]:
        collection = self.collection
        return {
            "version": __version__,
            "title": collection.title,
            "count": len(collection),
            "layers": list(collection.layers),
            "columns": column_names(collection),
            "classes": list(map(encode_name, collection.source.class_names)),
            "map": {"kind": self.plane.kind, "note": self.plane.note},
            "skipped": len(collection.skipped),
            "search": collection.searching is not None,
            "labels": self.labels,
            "unwritten": self.unwritten,
        }

    def map(self) -> dict[str, Any]:
        x, y = (self.plane.points[:, axis].tolist() for axis in (0, 1))
        return {"x": [round(v, 6) for v in x], "y": [round(v, 6) for v in y]}

    def names(self) -> list[str]:
        return list(map(encode_name, self.collection.source.paths))

    def files(self) -> list[str]:
        """Where each image lies: its file, or its name where it is only a part of one."""
        source = self.collection.source
        places = (source.origin(i) for i in range(len(source)))
        return [
            encode_name(place.file if place is not None and place.size is None else path)
            for place, path in zip(places, source.paths, strict=True)
        ]

    def column(self, name: str) -> dict[str, Any]:
        try:
            return as_json(column(self.collection, name))
        except KeyError:
            raise MissingError(name) from None

    def neighbours(self, layer: str, row: str, k: int = NEIGHBOURS) -> dict[str, Any]:
        known = layer in self.collection.layers and row.isascii() and row.isdecimal() and len(row) < 12
        if not known or int(row) >= len(self.collection):
            raise MissingError(row)
        return found_json(self.collection.neighbours(int(row), layer, k))

    def duplicates(self, threshold: float | None = None, keep: str = "first") -> dict[str, Any]:
        """Groups of near-duplicates at the threshold that is chosen on copies of these images, or at another one, and
        what it rests on; `dropped`: the rows that repeat the one of each group that is kept.
        """
        rule, collection = named_keep(keep), self.collection
        found = collection.copies(threshold)
        rows = collection.row_numbers(found)
        dropped = collection.once.get(
            ("dropped", found.threshold, rule), lambda: rows[found.rows_to_drop(rule)].tolist()
        )
        groups = [
            {"rows": rows[list(g.rows)].tolist(), "cosines": [round(c, 4) for c in g.similarities]}
            for g in found[:MOST]
        ]
        return {
            "threshold": found.threshold,
            "layer": found.layer,
            "groups": groups,
            "count": len(found),
            "dropped": dropped,
            "basis": found.basis,
            "caution": found.caution_by(
                "Take a lower cosine above, which also finds more that are no copies"
            ),
        }

    def outliers(self) -> dict[str, Any]:
        """The images whose k-th nearest other one is farthest, farthest first; k is 10, less of few images."""
        distances = torch.from_numpy(column(self.collection, "ood").values)
        rows = distances.argsort(descending=True, stable=True)[:LISTED]
        return {
            "rows": rows.tolist(),
            "values": _rounded(distances[rows]),
            "what": f"distance to nearest image {outlier_neighbours(len(self.collection))}, 0 to 2",
        }

    def typical(self, k: int = 24) -> dict[str, Any]:
        """The most typical image of each of k clusters (TypiClust), those of large clusters first."""
        self._check(k)
        collection = self.collection
        rows, sizes = collection.once.get(("typical", k), lambda: typical_rows(collection.unit(), k))
        return {"rows": rows.tolist(), "values": sizes.tolist(), "what": "images in its cluster"}

    def diverse(self, k: int = 50, apart: int = 0) -> dict[str, Any]:
        """k images, each the farthest from those before it (Gonzalez): the first few are a subset for few labels.

        `apart`: 1 to stay away from the images that are labelled already.
        """
        before = sorted(self.labelled()) if apart else []
        self._check(k, len(self.collection) - len(before))
        chosen = torch.tensor(before) if before else None
        rows, gaps = farthest_first(self.collection.unit(), k, chosen=chosen)
        return {
            "rows": rows.tolist(),
            "values": _rounded(gaps),
            "what": "distance to the nearest of those before it, 0 to 2",
        }

    def clusters(self, k: int | None = None) -> dict[str, Any]:
        """Clusters by k-means: per row the number of its cluster, per cluster its size and the images nearest to its
        centre."""
        if k is not None:
            self._check(k)
        collection = self.collection
        found = clusters(collection, k)
        groups = [
            {"size": size, "rows": found.rows(number)[:SHOWN].tolist()}
            for number, size in enumerate(found.sizes.tolist())
        ]
        return {"k": len(groups), "groups": groups, **as_json(cluster_column(found))}

    def _check(self, k: int, images: int | None = None) -> None:
        most = min(MOST, len(self.collection) if images is None else images)
        if most == 0:
            raise UsageError("Every image has a label: none is left to choose.")
        if not 1 <= k <= most:
            raise UsageError(f"k: got {k}, expected 1 to {most}.")


def found_json(found: Found) -> dict[str, Any]:
    """What was found, for the page."""
    return {"rows": found.rows, "cosines": [round(cosine, 5) for cosine in found.cosines]}


def _rounded(values: torch.Tensor) -> list[float | None]:
    return [round(value, 4) if value == value else None for value in values.tolist()]


_TAKES: dict[str, dict[str, type]] = {
    "neighbours": {"k": int},
    "typical": {"k": int},
    "diverse": {"k": int, "apart": int},
    "clusters": {"k": int},
    "duplicates": {"threshold": float, "keep": str},
}


def _numbers(name: str, query: Mapping[str, str]) -> dict[str, Any]:
    """The numbers of a query. Raises: UsageError for what is none, or is not taken."""
    kinds = _TAKES.get(name, {})
    found = {}
    for key, text in query.items():
        if key not in kinds:
            raise UsageError(f"{name}: got {key}, expected {' or '.join(kinds) or 'nothing'}.")
        try:
            found[key] = kinds[key](text)
        except ValueError:
            raise UsageError(f"{key}: got {text!r}, expected a number.") from None
    if "k" in found and name == "neighbours" and not 1 <= found["k"] <= MOST:
        raise UsageError(f"k: got {found['k']}, expected 1 to {MOST}.")
    return found
