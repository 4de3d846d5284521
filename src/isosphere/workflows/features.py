"""Rows of features, computed as a source is read: the pixels of a few batches are in memory, never those of a set."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isosphere.data import Source, ViewRecipe, centre_view, require_readable, stream
from isosphere.evaluation import (
    Features,
    MakesViews,
    encoded,
    packed,
    rotation_invariant_descriptor,
    share,
    small_pixels,
)
from isosphere.methods import Method
from isosphere.models import Encoder, class_tokens, evaluation_mode
from isosphere.workflows.ranks import Ranks

__all__ = [
    "BATCH",
    "Look",
    "Reading",
    "centre_look",
    "descriptor_look",
    "pictures",
    "pixel_look",
    "read",
    "scores_look",
    "tokens_look",
    "views_look",
]

BATCH = 256
"""Images that pass through a network at once; with another number figures would differ in their last digits."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """What is computed of images: rows by name, of pixels uint8 ``(b, 3, s, s)`` and the images' positions.

    `module`, if there is one, is in evaluation mode meanwhile.
    """

    see: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
    module: nn.Module | None = None


@dataclass(frozen=True)
class Reading:
    """What was read of a source: positions of the n images that could be, reasons why others could not, and the rows
    of each look by name, ``(n, p)``.
    """

    positions: Tensor
    skipped: list[tuple[str, str]]
    rows: dict[str, dict[str, Tensor]]


def read(
    source: Source,
    looks: Mapping[str, Look],
    *,
    canvas: int,
    device: torch.device,
    ranks: Ranks,
    strict: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> Reading | None:
    """Decode a source once, batch by batch, and compute the rows of all looks; each rank its share.

    To the bit the same on any number of ranks and workers: a share is whole batches. Rows stay on `device` where one
    rank is alone and there is room.

    Memory: the rows, and on this process the pixels of a few batches.

    Returns: on rank 0 everything, on the others None.

    Raises: RunError if nothing can be read, or with `strict` if anything cannot.
    """
    own = share(len(source), rank=ranks.rank, world=ranks.world, batch_size=BATCH)
    tables = {name: _Table(len(own)) for name in looks}
    positions, failed = [torch.empty(0, dtype=torch.int64)], {}
    with ExitStack() as quiet:
        for look in looks.values():
            if look.module is not None:
                quiet.enter_context(evaluation_mode(look.module))
        quiet.enter_context(torch.no_grad())
        for batch in stream(
            source, canvas, positions=own, batch_size=BATCH, workers=workers, progress=progress
        ):
            failed |= batch.failed
            if not len(batch.index):
                continue
            positions.append(batch.index)
            pixels, index = batch.images.to(device), batch.index.to(device)
            for name, look in looks.items():
                tables[name].add(look.see(pixels, index))
    listed = [(source.paths[i], reason) for i, reason in sorted(failed.items())]
    skipped = [item for each in ranks.gather(listed) for item in each] + source.unreadable
    everyone = ranks.gather_rows({"positions": torch.cat(positions)})
    rows = {name: ranks.gather_rows(table.rows()) for name, table in tables.items()}
    if not ranks.first:
        return None
    require_readable(source, len(everyone["positions"]), skipped, strict=strict)
    return Reading(everyone["positions"], skipped, rows)


class _Table:
    """Rows by name that come batch by batch, written where they will stay: no second copy is made to join them."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._count = capacity, 0
        self._rows: dict[str, Tensor] = {}

    def add(self, batch: Mapping[str, Tensor]) -> None:
        count = len(next(iter(batch.values())))
        for name, x in batch.items():
            if name not in self._rows:
                self._rows[name] = self._empty(x)
            self._rows[name][self._count : self._count + count] = x
        self._count += count

    def rows(self) -> dict[str, Tensor]:
        return {name: x[: self._count] for name, x in self._rows.items()}

    def _empty(self, x: Tensor) -> Tensor:
        try:
            return x.new_empty(self._capacity, *x.shape[1:])
        except torch.OutOfMemoryError:  # of a GPU that has room for batches alone
            return torch.empty(self._capacity, *x.shape[1:], dtype=x.dtype)


# --- looks --------------------------------------------------------------------------------------------------------


def centre_look(method: Method, size: int) -> Look:
    """Features of the deterministic centre view: ``backbone/0``, ``head/0``."""
    encoder = method.encoder
    mean, std = tuple(encoder.mean), tuple(encoder.std)  # type: ignore[arg-type]

    def see(pixels: Tensor, index: Tensor) -> Mapping[str, Tensor]:
        return packed([Features(*encoded(method.embed, centre_view(pixels, size, mean, std)))])

    return Look(see, method)


def views_look(method: Method, views: MakesViews, seed: int) -> Look:
    """Features of random views, which depend on the seed and each image's position alone."""

    def see(pixels: Tensor, index: Tensor) -> Mapping[str, Tensor]:
        drawn = views(pixels, index=index, epoch=0, seed=seed)
        return packed([Features(*encoded(method.embed, view)) for view in drawn])

    return Look(see, method)


def scores_look(method: Method, size: int) -> Look:
    """The method's own scores of the centre view, larger for familiar images; names keep the method's order."""
    encoder = method.encoder
    mean, std = tuple(encoder.mean), tuple(encoder.std)  # type: ignore[arg-type]

    def see(pixels: Tensor, index: Tensor) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = method.scores(centre_view(pixels, size, mean, std))  # type: ignore[operator]
        return {f"{i:03d} {name}": x.float() for i, (name, x) in enumerate(found.items())}

    return Look(see, method)


def tokens_look(encoder: Encoder, size: int, blocks: int) -> Look:
    """Class tokens of a ViT's last blocks, of the centre view."""
    mean, std = tuple(encoder.mean), tuple(encoder.std)

    def see(pixels: Tensor, index: Tensor) -> Mapping[str, Tensor]:
        return {"tokens": class_tokens(encoder, centre_view(pixels, size, mean, std), blocks).float()}

    return Look(see, encoder)


def pixel_look(side: int) -> Look:
    """The image itself at a small size, in bytes."""
    return Look(lambda pixels, index: {"pixels": small_pixels(pixels, size=side)})


def descriptor_look(views: MakesViews, recipe: ViewRecipe, seed: int) -> Look:
    """The rotation-invariant descriptor of each random view."""

    def see(pixels: Tensor, index: Tensor) -> Mapping[str, Tensor]:
        drawn = pictures(views, recipe, pixels, index, seed)
        return {str(v): rotation_invariant_descriptor(view) for v, view in enumerate(drawn)}

    return Look(see)


def pictures(
    views: MakesViews, recipe: ViewRecipe, pixels: Tensor, index: Tensor, seed: int
) -> list[Tensor]:
    """Random views as pictures in [0, 1]: before the network's normalisation."""
    mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (recipe.mean, recipe.std))
    return [(view * std + mean).clamp(0, 1) for view in views(pixels, index=index, epoch=0, seed=seed)]
