"""A trained network, to be applied to images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isosphere.data import (
    MOST_PASSES,
    Fit,
    Pixels,
    Reading,
    Source,
    TimmTransform,
    White,
    digests,
    read_images,
    settle_reading,
    stream,
)
from isosphere.deploy._layers import Layer, named_layer
from isosphere.deploy._pictures import source_of
from isosphere.errors import UsageError, command, option, plural
from isosphere.evaluation import (
    WCCN,
    FeatureCache,
    Features,
    Look,
    Progress,
    centre_key,
    centre_look,
    extract,
    look_through,
    packed,
    unpacked,
    weights_identity,
)
from isosphere.models import Adaptation, Encoder
from isosphere.runs import RunFolder, tensors_identity

Encode: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
Role: TypeAlias = Literal["student", "teacher"]
"""Which of a method's networks: the one that learned by gradients, or the slow copy that followed it."""


def pixels_of(encoder: Encoder, size: int, canvas: int, reading: Reading) -> Pixels:
    """How pictures become what an encoder is given: timm's evaluation transform where its first weights came with one,
    else squares of the canvas that it was trained on.
    """
    mean, std = tuple(encoder.mean), tuple(encoder.std)
    if encoder.crop_pct is None:
        return Pixels(canvas, size, mean, std, reading)
    names = ("crop_pct", "crop_mode", "interpolation", "mean")
    timm = TimmTransform.of({name: getattr(encoder, name) for name in names})
    return Pixels(size, size, mean, std, replace(reading, timm=timm))


@dataclass(frozen=True, eq=False)
class Embedder:
    """What applies a trained encoder with its head; :class:`isosphere.workflows.Run` is one.

    ``encode`` maps normalised ``(b, channels, size, size)`` to backbone and head outputs, as ``method.embed``.
    Pictures are first brought to ``canvas`` pixels a side, as in ``isosphere evaluate``, so that all of them speak of
    the same features; ``reading`` says how (:func:`pixels_of`). ``settings`` are what the weights do not hold and
    features depend on. ``posterior`` maps backbone features to means and variances ``(b, 2 d)`` where the method has a
    posterior. With several ``passes`` outputs are averaged over an image, its mirror image and slight crops
    (:func:`isosphere.data.another_look`). ``role`` says which of the method's networks this is.
    """

    folder: RunFolder
    encode: Encode
    encoder: Encoder
    size: int
    canvas: int
    settings: tuple[object, ...] = ()
    cache: FeatureCache | None = None
    metric: WCCN | None = None
    adaptation: Adaptation | None = None
    has_head: bool = True
    posterior: Callable[[Tensor], Tensor] | None = None
    passes: int = 1
    reading: Reading = field(default_factory=Reading)
    role: Role = "student"

    @property
    def pixels(self) -> Pixels:
        """How a picture becomes what the encoder is given."""
        encoder = self.encoder
        return Pixels(self.canvas, self.size, tuple(encoder.mean), tuple(encoder.std), self.reading)

    def fitted(self, fit: Fit) -> Self:
        """The same, which looks at another part of a picture: all of it (``pad``), or the central square (``crop``)."""
        return replace(self, reading=replace(self.reading, fit=fit))

    def settled(self, source: Source) -> tuple[Self, White | None]:
        """The same for the images of this source as one set: the number that is white in them is found where the run
        says none, and why (:func:`isosphere.data.settle_reading`).

        Raises: UsageError if it cannot be told, or they are on another scale than that of the run.
        """
        reading, white = settle_reading(source, self.reading)
        return (self if reading == self.reading else replace(self, reading=reading)), white

    def looking(self, passes: int) -> Self:
        """The same, which passes each image through the network so many times. Raises: UsageError for a number out of
        range.
        """
        if not 1 <= passes <= MOST_PASSES:
            raise UsageError(f"{option('passes')}: got {passes}, expected a number from 1 to {MOST_PASSES}.")
        return replace(self, passes=passes)

    @property
    def key(self) -> dict[str, Any]:
        """All that features depend on besides weights and images, for JSON."""
        return self.pixels.key | ({} if self.passes == 1 else {"passes": self.passes})

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return next(self.encoder.parameters()).device

    @cached_property
    def weights(self) -> str:
        """Digest of everything that maps pixels to features."""
        module = getattr(self.encode, "__self__", None)
        return self.digest(module if isinstance(module, nn.Module) else self.encoder)

    def digest(self, module: nn.Module) -> str:
        """Digest of a module's weights and of the settings, as evaluations keep it beside their figures."""
        return weights_identity(module, *self.settings)

    @property
    def identity(self) -> str:
        """Digest of all that vectors of any layer depend on, as it is in memory: a training may have written other
        weights to the folder since. What was computed with others is not to be used with these.
        """
        metric = self.metric
        more = "" if metric is None else tensors_identity({"mean": metric.mean, "basis": metric.basis})
        return f"{self.judged(self.weights)} {more}".rstrip()

    def judged(self, weights: str) -> str:
        """Digest of a network with what it is adapted by, as figures of it are kept."""
        return weights if self.adaptation is None else f"{weights} {tensors_identity(self.adaptation.state)}"

    def features(
        self,
        pixels: Tensor,
        *,
        layer: Layer | str | None = None,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings of images that are square already: uint8 ``(n, channels, canvas, canvas)`` to ``(n, d)``.

        Raises: UsageError for a layer that the run does not have.
        """
        chosen = self.check_output(layer)
        return self.select(self._extract(pixels, batch_size, progress), chosen).numpy()

    def select(self, features: Features, layer: Layer) -> Tensor:
        """A layer of extracted features: ``(n, d)``."""
        if layer == "adapted":
            assert self.adaptation is not None
            return self.adaptation.applied(features.backbone)
        if layer == "wccn":
            assert self.metric is not None
            return self.metric(features.backbone)
        if layer == "posterior":
            assert self.posterior is not None
            return self.posterior(features.backbone.to(self.device)).cpu()
        return getattr(features, layer)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The outputs that there are, to be compared by cosine; the first is taken where none is named. A posterior can
        be embedded beside them (:meth:`check_output`).
        """
        found: dict[Layer, bool] = {
            "adapted": self.adaptation is not None,
            "backbone": True,
            "wccn": self.metric is not None,
            "head": self.has_head,
        }
        return tuple(layer for layer, there in found.items() if there)

    def check_output(self, layer: str | None = None) -> Layer:
        """As :meth:`check_layer`, and the posterior where the run has one."""
        chosen = None if layer is None else named_layer(layer)
        return chosen if chosen == "posterior" and self.posterior is not None else self.check_layer(chosen)

    def check_layer(self, layer: str | None = None) -> Layer:
        """The layer of this name, the first of :attr:`layers` if None. Raises: UsageError for one that there is not, or
        that this run does not have, or that is not for comparing images.
        """
        chosen = self.layers[0] if layer is None else named_layer(layer)
        if chosen in self.layers:
            return chosen
        if chosen == "posterior" and self.posterior is not None:
            raise UsageError(
                f"{option('layer', chosen)}: means and variances can be embedded, and no cosine compares them: take "
                f"{' or '.join(self.layers)}."
            )
        if chosen == "posterior":
            raise UsageError(
                f"{option('layer', chosen)}: this run has no posterior, which only VJE learns "
                f"({option('method', 'vje')}, or vje+mmd): take {' or '.join(self.layers)}."
            )
        if chosen == "wccn" and self.has_head:
            again = command("train", "DATA", out=self.folder.path, resume=True)
            raise UsageError(
                f"{self.folder.path} has no {self.folder.wccn.name}, which a training writes at its end: go on with it "
                f"({again}), or take the layer backbone."
            )
        adapt = "; isosphere adapt makes a run that has this layer" if chosen == "adapted" else ""
        what = "a network that was trained" if self.has_head else "a frozen network"
        raise UsageError(
            f"{option('layer', chosen)}: this is {what}, and it has {' and '.join(self.layers)}{adapt}."
        )

    @property
    def search_layer(self) -> Layer:
        """Where neighbours are sought unless a layer is named: ``wccn`` where the run has it, else the first of
        :attr:`layers`.
        """
        return self.layers[0] if self.metric is None else "wccn"

    def source_features(
        self,
        source: Source,
        *,
        batch_size: int = 256,
        workers: int = 2,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[NDArray[np.int64], Features, dict[int, str]]:
        """Both outputs for the images of a source: positions of the readable ones, their features, and why others are
        not. What `cache` has is read, and its images are not decoded; the rest is computed and kept.

        Rows that another set of images left there agree with fresh ones to the rounding of float32; asked
        again they are the same to the bit. `progress` is called with the number of images that are done.
        """
        failed: dict[int, str] = {}
        source = source.read_as(self.reading)
        look = centre_look(self.encode, self.size, self.encoder.mean, self.encoder.std, passes=self.passes)

        def compute(positions: Tensor) -> dict[str, Tensor]:
            def seen(count: int) -> None:
                if progress is not None:
                    progress(len(source) - len(positions) + count)

            return rows_seen(
                source,
                positions,
                look,
                canvas=self.canvas,
                device=self.device,
                failed=failed,
                batch_size=batch_size,
                workers=workers,
                progress=seen,
            )

        if self.cache is None or len(source) == 0:
            found = compute(torch.arange(len(source)))
        else:
            key = centre_key(self.weights, self.key, device=self.device)

            def check(positions: Tensor) -> dict[str, Tensor]:
                few = read_images(source.subset(positions.numpy()), self.canvas, workers=0)
                if not len(few):
                    return {}
                return packed([self._extract(few.images, batch_size, None)])

            found = self.cache.gather(key, torch.from_numpy(digests(source)), compute, check=check)
        positions = found.pop("positions").numpy()
        empty = Features(torch.empty(0, 0), torch.empty(0, 0))
        return positions, unpacked(found)[0].cpu() if found else empty, failed

    def _extract(self, pixels: Tensor, batch_size: int, progress: Progress | None) -> Features:
        return extract(
            self.encode,
            pixels,
            self.size,
            self.encoder.mean,
            self.encoder.std,
            batch_size=batch_size,
            device=self.device,
            passes=self.passes,
            progress=progress,
            group=False,  # whoever applies a run on one rank alone must not wait for the others
        )

    def square(self, images: Any) -> Tensor:
        """Pictures as the encoder's canvas: uint8 ``(n, channels, canvas, canvas)``; kinds as for `embed_images`.

        Raises: UsageError for what is no picture, or cannot be read.
        """
        source = source_of(images, self.encoder.in_chans)
        reading, _ = settle_reading(source, self.reading)
        found = read_images(source.read_as(reading), self.canvas)
        refuse_unreadable(found.skipped)
        return found.images


def rows_seen(
    source: Source,
    positions: Tensor,
    look: Look,
    *,
    canvas: int,
    device: torch.device,
    failed: dict[int, str],
    batch_size: int = 256,
    workers: int = 2,
    strict: bool = False,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Tensor]:
    """The rows of a look at some images of a source, and as ``positions`` which of these they belong to; why others
    could not be read is added to `failed`. `progress` is called with the number of images that have been seen.

    Raises: RunError, with `strict`, if one cannot be read.
    """
    kept: list[Tensor] = [torch.empty(0, dtype=torch.int64)]

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "strict": strict}
        for number, batch in enumerate(stream(source, canvas, positions=positions, **options)):
            failed.update(batch.failed)
            kept.append(batch.index)
            yield batch.images, batch.index
            if progress is not None:  # the batch has passed through the network
                progress(min(len(positions), (number + 1) * batch_size))

    rows = look_through(batches(), {"": look}, capacity=len(positions), device=device)[""]
    return {**rows, "positions": torch.searchsorted(positions, torch.cat(kept))}


def refuse_unreadable(skipped: Sequence[tuple[str, str]]) -> None:
    """Raises: UsageError if an image that was asked for by name could not be read."""
    if skipped:
        path, reason = skipped[0]
        others = f", nor can {plural(len(skipped) - 1, 'other')}" if len(skipped) > 1 else ""
        raise UsageError(f"{path} cannot be read as an image ({reason}){others}: leave it out, or repair it.")
