"""Rows of features, computed as a source is read: the pixels of a few batches are in memory, never those of a set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.data import Source, ViewRecipe, centre_view, require_readable, stream
from isosphere.evaluation import (
    Look,
    MakesViews,
    Progress,
    look_through,
    rotation_invariant_descriptor,
    share,
    small_pixels,
)
from isosphere.methods import Method
from isosphere.models import Encoder, class_tokens
from isosphere.workflows._ranks import Ranks

BATCH = 256
"""Images that pass through a network at once; with another number figures would differ in their last digits."""


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
    positions = torch.empty(len(own), dtype=torch.int64)
    count, failed = 0, dict[int, str]()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal count
        for batch in stream(
            source, canvas, positions=own, batch_size=BATCH, workers=workers, progress=progress
        ):
            failed.update(batch.failed)
            positions[count : count + len(batch.index)] = batch.index
            count += len(batch.index)
            yield batch.images, batch.index

    tables = look_through(batches(), looks, capacity=len(own), device=device)
    listed = [(source.paths[i], reason) for i, reason in sorted(failed.items())]
    skipped = [item for each in ranks.gather(listed) for item in each] + source.unreadable
    everyone = ranks.gather_rows({"positions": positions[:count]})
    rows = {name: ranks.gather_rows(table) for name, table in tables.items()}
    if not ranks.first:
        return None
    require_readable(source, len(everyone["positions"]), skipped, strict=strict)
    return Reading(everyone["positions"], skipped, rows)


# --- looks --------------------------------------------------------------------------------------------------------


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


def pictures(views: MakesViews, recipe: ViewRecipe, pixels: Tensor, index: Tensor, seed: int) -> list[Tensor]:
    """Random views as pictures in [0, 1]: before the network's normalisation."""
    mean, std = (
        torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (recipe.mean, recipe.std)
    )
    return [(view * std + mean).clamp(0, 1) for view in views(pixels, index=index, epoch=0, seed=seed)]
