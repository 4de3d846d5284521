"""A run as what ``Dataset.map_batches`` of Ray Data applies."""

import io
from typing import Any

import numpy as np
from PIL import Image

from isosphere.errors import UsageError


class Embed:
    """Embeddings of the images of a column, for ``map_batches`` of anyone's Ray Data set; one model a worker.

    ``ray.data.read_images("s3://bucket/pictures").map_batches(Embed, fn_constructor_args=["runs/a"], batch_size=256,
    compute=ray.data.ActorPoolStrategy(size=8))`` adds the column ``embedding``, float32 ``(n, d)``; with ``num_gpus=1``
    a worker computes on a GPU.

    Args:
        run: folder of a run, or ``timm:NAME``, that every worker can read.
        column: of images: encoded bytes, paths, or arrays uint8 (h, w, channels).
        layer: one of ``LAYERS``; None: the first that the run has. passes: of each image, whose features are averaged.
        batch_size: images that pass through the network at once.

    Raises: UsageError for a batch without the column, or an image that cannot be read.
    """

    def __init__(
        self,
        run: str,
        *,
        column: str = "image",
        layer: str | None = None,
        passes: int = 1,
        batch_size: int = 256,
    ) -> None:
        from isosphere import workflows

        self.run = workflows.load(run, cache=False).looking(passes)
        self.layer = self.run.check_output(layer)
        self.column, self.batch_size = column, batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.column not in batch:
            raise UsageError(
                f"column={self.column!r}: the batch has the columns {', '.join(batch)}. Name that of the images."
            )
        images = [_picture(item) for item in batch[self.column]]
        rows = self.run.embed(images, layer=self.layer, batch_size=self.batch_size)
        return {**batch, "embedding": rows.astype(np.float32, copy=False)}


def _picture(item: Any) -> Any:
    """An image as a run takes it: bytes are opened, paths and arrays are taken as they are."""
    if isinstance(item, bytes | bytearray | memoryview):
        return Image.open(io.BytesIO(item))
    return str(item) if isinstance(item, str) else item
