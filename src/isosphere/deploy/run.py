"""A trained run as a person uses it: pictures in, embeddings and neighbours out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from isosphere.data import (
    ImageSet,
    Source,
    UnreadableImageError,
    decode,
    fit_square,
    is_image_name,
    open_source,
    to_tensor,
)
from isosphere.errors import UsageError
from isosphere.evaluation import FeatureCache, Features, ViewMetric, extract
from isosphere.evaluation.cache import centre_key, image_digests, weights_identity
from isosphere.evaluation.features import packed, unpacked
from isosphere.models import Encoder
from isosphere.runs import RunFolder

if TYPE_CHECKING:
    from isosphere.deploy.index import Index, Match

__all__ = ["LAYERS", "Layer", "Progress", "Run"]

Layer: TypeAlias = Literal["backbone", "views", "head"]
Progress: TypeAlias = Callable[[int, int], None]
Encode: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]

LAYERS: dict[str, str] = {
    "backbone": "features of the encoder, for classes and most other uses",
    "views": "the same in the metric of the views, for neighbours: what augmentation changes counts less",
    "head": "output of the projection head, for finding views of the same image",
}


@dataclass(frozen=True)
class Run:
    """A trained encoder with its head, ready to be applied; ``isosphere.load(FOLDER)`` makes one.

    ``encode`` maps normalised ``(b, 3, size, size)`` to backbone and head outputs, as ``method.embed``.
    Pictures are first brought to ``canvas`` pixels a side, as in training and in ``isosphere evaluate``, so
    that all of them speak of the same features.
    """

    folder: RunFolder
    encode: Encode
    encoder: Encoder
    size: int
    canvas: int
    settings: tuple[object, ...] = ()
    cache: FeatureCache | None = None
    metric: ViewMetric | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}, {self.encoder.name}, {self.size} px, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return next(self.encoder.parameters()).device

    @cached_property
    def weights(self) -> str:
        """Digest of everything that maps pixels to features."""
        module = getattr(self.encode, "__self__", None)
        return weights_identity(module if isinstance(module, nn.Module) else self.encoder, *self.settings)

    @cached_property
    def identity(self) -> str:
        """Digest of the weights: what was computed with other weights is not to be used with these."""
        digest = hashlib.blake2b(digest_size=16)
        for file in (self.folder.encoder, self.folder.method, self.folder.view_metric):
            if not file.exists():
                continue
            with file.open("rb") as handle:
                while part := handle.read(1 << 22):
                    digest.update(part)
        return digest.hexdigest()

    def embed(
        self,
        images: Any,
        *,
        layer: Layer = "backbone",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings of pictures.

        Args:
            images: data as on the command line (``"PICTURES/"``, ``"textures:wood"``), a ``Source`` or
                ``ImageSet``; or a picture or a list of them: files, PIL images, uint8 arrays (h, w[, 3]); or
                uint8 arrays (n, h, w, 3), tensors (n, 3, h, w).
            layer: one of ``LAYERS``.
            progress: called with (images done, images in all).

        Shape: float32 ``(n, d)`` in the order of the images; n = 1 for one picture.

        Raises: UsageError for a layer that the run does not have, something that is no picture, or data of which some
            pictures cannot be read (``isosphere.deploy.embed_source`` leaves these out and says which).
        """
        from isosphere.deploy.embed import embed_source

        opened = _as_source(images)
        if opened is not None:
            found = embed_source(self, opened, layer=layer, batch_size=batch_size, progress=progress)
            if found.skipped:
                path, reason = found.skipped[0]
                raise UsageError(
                    f"{len(found.skipped)} images cannot be read, the first {path} ({reason}): remove them, "
                    "or use isosphere.deploy.embed_source, which leaves them out and says so."
                )
            return found.values
        return self.features(self.square(images), layer=layer, batch_size=batch_size, progress=progress)

    def features(
        self,
        pixels: Tensor,
        *,
        layer: Layer = "backbone",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings of images that are square already: uint8 ``(n, 3, canvas, canvas)`` to ``(n, d)``.

        Raises: UsageError for a layer that the run does not have.
        """
        self.check_layer(layer)
        return self.select(self._extract(pixels, batch_size, progress), layer).numpy()

    def select(self, features: Features, layer: Layer) -> Tensor:
        """A layer of extracted features: ``(n, d)``."""
        if layer == "views":
            assert self.metric is not None
            return self.metric(features.backbone)
        return getattr(features, layer)

    def check_layer(self, layer: str) -> None:
        """Raises: UsageError for a layer that there is not, or that this run does not have."""
        if layer not in LAYERS:
            raise UsageError(f"layer: got '{layer}', expected backbone, views or head.")
        if layer == "views" and self.metric is None:
            raise UsageError(
                f"{self.folder.path} has no {self.folder.view_metric.name}, which a training writes at its end: go on "
                f"with it (isosphere train DATA --out {self.folder.path} --resume), or take the layer backbone."
            )

    @property
    def search_layer(self) -> Layer:
        """Where neighbours are sought unless a layer is named: ``views`` where the run has it, else ``backbone``."""
        return "backbone" if self.metric is None else "views"

    def known_features(
        self, pixels: Tensor, *, batch_size: int = 256, progress: Progress | None = None
    ) -> Features:
        """Both outputs for uint8 ``(n, 3, canvas, canvas)``: what `cache` has is read, the rest computed and kept.

        Rows that another set of images left there agree with fresh ones to the rounding of float32; asked
        again they are the same to the bit.
        """
        if self.cache is None or len(pixels) == 0:
            return self._extract(pixels, batch_size, progress)

        def compute(rows: Tensor) -> dict[str, Tensor]:
            chosen = pixels if len(rows) == len(pixels) else pixels[rows]
            return packed([self._extract(chosen, batch_size, progress)])

        encoder = self.encoder
        key = centre_key(self.weights, size=self.size, mean=encoder.mean, std=encoder.std, device=self.device)
        return unpacked(self.cache.gather(key, image_digests(pixels), compute))[0]

    def _extract(self, pixels: Tensor, batch_size: int, progress: Progress | None) -> Features:
        return extract(
            self.encode,
            pixels,
            self.size,
            self.encoder.mean,
            self.encoder.std,
            batch_size=batch_size,
            device=self.device,
            progress=progress,
            group=False,  # whoever applies a run on one rank alone must not wait for the others
        )

    def square(self, images: Any) -> Tensor:
        """Pictures as the encoder's canvas: uint8 ``(n, 3, canvas, canvas)``. Kinds and errors as `embed`."""
        if isinstance(images, ImageSet):
            images = images.images
        pictures = _pictures(images)
        same = {(np.shape(p), getattr(p, "dtype", None)) for p in pictures}
        if same == {((3, self.canvas, self.canvas), torch.uint8)}:
            return torch.stack(list(pictures))
        return torch.stack(
            [to_tensor(fit_square(_picture(p, 2 * self.canvas), self.canvas)) for p in pictures]
        )

    def index(
        self, data: str | Path | Source, *, layer: Layer | None = None, progress: Progress | None = None
    ) -> "Index":
        """The images of `data` made searchable: read from the run's folder where they were seen before.

        `layer`: :attr:`search_layer` if None.
        """
        from isosphere.deploy.index import open_index

        return open_index(self, data, layer=layer or self.search_layer, progress=progress)

    def search(
        self,
        images: Any,
        within: "str | Path | Source | Index",
        *,
        k: int = 5,
        layer: Layer | None = None,
        progress: Progress | None = None,
    ) -> "list[list[Match]]":
        """The k images of `within` most similar to each picture, by cosine, best first.

        Args:
            images: as for :meth:`embed`.
            within: data to search, or the result of :meth:`index` (then its layer is used).
            layer: :attr:`search_layer` if None.
            k: how many; all where there are fewer.

        Returns: one list per picture.
        """
        from isosphere.deploy.index import Index

        index = within if isinstance(within, Index) else self.index(within, layer=layer, progress=progress)
        return index.search(self.embed(images, layer=index.layer), k)


def _as_source(images: Any) -> Source | None:
    if isinstance(images, Source):
        return images
    if isinstance(images, str) or (isinstance(images, Path) and images.is_dir()):
        path = Path(images)
        if not (is_image_name(path.name) and path.is_file()):
            return open_source(images)
    if isinstance(images, Path) and not is_image_name(images.name):
        return open_source(images)
    return None


def _pictures(images: Any) -> Sequence[Any]:
    """One item a picture."""
    if isinstance(images, (str, Path, Image.Image)):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        single = images.ndim == 2 or (images.ndim == 3 and 3 in (images.shape[0], images.shape[-1]))
        pictures = [images] if single else list(images)
    else:
        try:
            pictures = list(images)
        except TypeError:
            raise UsageError(
                f"images: got {type(images).__name__}, expected data such as 'PICTURES/', a file, a PIL "
                "image, a uint8 array, or a list of them."
            ) from None
    if not pictures:
        raise UsageError("images: got none, expected at least one picture.")
    return pictures


def _picture(item: Any, at_least: int) -> Image.Image:
    if isinstance(item, (str, Path)):
        try:
            return decode(Path(item), at_least=at_least)
        except UnreadableImageError as error:
            raise UsageError(f"{item} cannot be read as an image: {error}.") from error
    if isinstance(item, Image.Image):
        return ImageOps.exif_transpose(item).convert("RGB")
    array = item.cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    if isinstance(item, Tensor) and array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3):
        raise UsageError(
            f"images: got an array of {array.dtype} and shape {array.shape}, expected uint8 (h, w, 3) or "
            "(h, w), values 0 to 255; a tensor (3, h, w)."
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
