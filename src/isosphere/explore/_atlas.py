"""A file that Embedding Atlas' own program opens: places on a map, neighbours, pictures, classes, scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.atomic import atomic_file
from isosphere.errors import UsageError, option
from isosphere.explore._columns import column, column_names
from isosphere.explore._page import Page
from isosphere.tabular import encode_name

_ROWS = 2048  # pictures in memory at a time


def check_atlas(out: Path) -> None:
    """Raises: UsageError for a name that does not end in .parquet."""
    if out.suffix.lower() != ".parquet":
        raise UsageError(
            f"{option('out', out)}: Embedding Atlas reads Parquet: give a name that ends in .parquet, for example "
            f"{out.with_suffix('.parquet')}."
        )


def write_atlas(page: Page, out: Path) -> None:
    """Write a row an image: `path`, `label`, `class` and `embedding` (a unit row) as `isosphere embed` writes them, `x`
    and `y` of the map, `neighbors` (ids and cosine distances), `image` (a thumbnail of WebP), and the columns of the
    page: `cluster`, `ood`, `agreement`, `uncertainty`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    collection = page.resources.collection
    index, points = collection.index(), page.resources.plane.points
    cosines, rows = collection.graph()
    numbers = [name for name in column_names(collection) if name != "class"]
    values = {name: column(collection, name).values for name in numbers}
    names = collection.source.class_names
    paths = list(map(encode_name, index.paths))
    with atomic_file(out) as handle:
        writer: Any = None
        for start in range(0, len(collection), _ROWS):
            here = slice(start, min(start + _ROWS, len(collection)))
            unit = np.ascontiguousarray(index.unit[here].numpy(), np.float32)
            near = zip(rows[here].tolist(), (1 - cosines[here]).clamp(min=0).tolist(), strict=True)
            shown = [page.pictures.thumbnail(row) for row in range(here.start, here.stop)]
            columns = {
                "path": pa.array(paths[here], pa.string()),
                "label": pa.array(index.labels[here], pa.int64()),
                "class": pa.array(
                    [encode_name(names[k]) if k >= 0 else None for k in index.labels[here]], pa.string()
                ),
                "x": pa.array(points[here, 0], pa.float32()),
                "y": pa.array(points[here, 1], pa.float32()),
                **{name: pa.array(found[here]) for name, found in values.items()},
                "neighbors": pa.array(
                    [{"ids": ids, "distances": distances} for ids, distances in near],
                    pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))]),
                ),
                "image": pa.array(
                    [
                        {"bytes": content, "path": path}
                        for content, path in zip(shown, paths[here], strict=True)
                    ],
                    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
                ),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(unit.reshape(-1)), unit.shape[1]),
            }
            table = pa.table(columns)
            about = {"class_names": json.dumps(names)}
            table = table.replace_schema_metadata(about)
            if writer is None:
                writer = pq.ParquetWriter(handle, table.schema)
            writer.write_table(table)
        writer.close()
