"""A run read back: its configuration and its method, ready to be applied."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import torch

from isosphere.data import Source, Views, located, require_there
from isosphere.deploy import Embedder, pixels_of
from isosphere.errors import UsageError
from isosphere.evaluation import WCCN, FeatureCache
from isosphere.methods import Method
from isosphere.models import Encoder
from isosphere.runs import RunFolder
from isosphere.training import Config, build_views, load_method, require_device

IN_MEMORY = re.compile(r"\w+ of [\d,]+ images")
"""What :func:`isosphere.train` calls images that it was given in memory."""


DATA = "DATA"
"""Stands in commands for images that nobody knows the place of."""


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Embedder):
    """What evaluation and reports need of a run; :class:`isosphere.Run` adds what people do with it.

    `method` is in evaluation mode. `epoch` is that of the weights where they are not the last ones; `images` are those
    it was trained on, where they were given in Python.
    """

    config: Config = field(kw_only=True)
    method: Method = field(kw_only=True)
    epoch: int | None = field(default=None, kw_only=True)
    images: Source | None = field(default=None, kw_only=True)

    @classmethod
    def read(
        cls, path: str | Path, *, device: str | None = None, cache: bool = True, epoch: int | None = None
    ) -> Self:
        """The run in a folder; arguments and errors as of :func:`isosphere.load`."""
        if device is not None:
            require_device(device)
        folder = RunFolder.open(path)
        config, method = load_method(folder, epoch=epoch)
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        kept = FeatureCache(folder.path / "features") if cache else None
        width = cast(Encoder, method.encoder).feature_dim
        metric = WCCN.of_run(folder, width) if epoch is None else None  # it belongs to the last weights
        return cls.of(folder, config, method.to(where), cache=kept, metric=metric, epoch=epoch)

    @classmethod
    def of(cls, folder: RunFolder, config: Config, method: Method, **more: Any) -> Self:
        """A run of its parts; `more` are further fields by name."""
        encoder, size = cast(Encoder, method.encoder), config.data.image_size or 32
        pixels = pixels_of(encoder, size, config.data.canvas_size or size, config.data.reading)
        return cls(
            folder,
            method.embed,
            encoder,
            size,
            pixels.canvas,
            tuple(part.model_dump(mode="json") for part in (config.model, config.method)),
            config=config,
            reading=pixels.reading,
            method=method,
            **more,
        )

    @property
    def views(self) -> Views:
        """The views it was trained on."""
        return build_views(self.config, self.encoder)

    @property
    def trained_on(self) -> str:
        """The images of the training as a command names them: as they were typed, or where they lay, and ``DATA`` where
        they are no longer there; empty where it cannot be gone on with.
        """
        if not self.folder.checkpoint.exists():
            return ""
        source, known = self.config.data.source or "", self.folder.read_images()
        in_memory = self.images is not None or not source or IN_MEMORY.fullmatch(source)
        recorded = known.get("source") == source
        kept = str(known.get("location") or "") if recorded else ""
        if in_memory or (recorded and not kept):
            return DATA
        if kept and is_there(kept):
            return source if located(source) == kept else kept
        return source if is_there(source) else DATA


def is_there(data: str) -> bool:
    """Whether a text names images: a built-in, or a place where something is."""
    try:
        require_there(data)
    except UsageError:
        return False
    return True
