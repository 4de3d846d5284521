"""Frozen features of a set of images: computed once, in evaluation mode, leaving no trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from isosphere.data import centre_view
from isosphere.reductions import Group, first_row, gather_rows, row_counts

__all__ = ["Features", "extract", "extract_views", "first_two", "packed", "unpacked"]

Encode = Callable[[Tensor], "tuple[Tensor, Tensor] | Tensor"]
Progress = Callable[[int, int], None]


class _HasImages(Protocol):
    @property
    def images(self) -> Tensor: ...


class MakesViews(Protocol):
    def __call__(self, images: Tensor, *, index: Tensor, epoch: int, seed: int) -> Sequence[Tensor]: ...


def first_two(views: MakesViews) -> MakesViews:
    """The same random views, only the first two of each image."""

    def pair(images: Tensor, *, index: Tensor, epoch: int, seed: int) -> Sequence[Tensor]:
        return views(images, index=index, epoch=epoch, seed=seed)[:2]

    return pair


@dataclass(frozen=True, slots=True)
class Features:
    """What an encoder says of n images: backbone output ``(n, p)``, head output ``(n, d)``; float32, CPU."""

    backbone: Tensor
    head: Tensor

    def __len__(self) -> int:
        return len(self.backbone)


def packed(views: Sequence[Features]) -> dict[str, Tensor]:
    """Features of several views as tensors by name, as a file holds them."""
    return {f"{layer}/{v}": getattr(x, layer) for v, x in enumerate(views) for layer in ("backbone", "head")}


def unpacked(found: Mapping[str, Tensor]) -> list[Features]:
    """The views that :func:`packed` packed."""
    return [Features(found[f"backbone/{v}"], found[f"head/{v}"]) for v in range(len(found) // 2)]


def extract(
    encode: Encode,
    images: Tensor | _HasImages,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
    group: Group = None,
) -> Features:
    """Features of images, each seen once through the deterministic centre view.

    Args:
        encode: from normalised ``(b, c, size, size)`` to ``(features, embedding)``, such as ``method.embed``;
            or to one tensor, which then stands for both.
        images: uint8 ``(n, c, h, w)``, or anything with such an attribute ``images``.
        size, mean, std: of the view; those of the encoder.
        device: where to compute; that of the encoder's parameters if None, else that of the images.
        autocast: a dtype to compute in; None is full precision.
        progress: called with (images done, images in all) after every batch; those of this rank.
        group: ranks that share the work, as everywhere in isosphere: None is the default process group if
            one is initialised, False this rank alone. `images` are then the images of this rank (none is
            allowed), and every rank gets the features of all of them, in the order of the ranks. To the bit
            those of one process where every rank but the last with images holds whole batches
            (:func:`isosphere.evaluation.share`), and to the rounding of float32 elsewhere.

    Modules are put in evaluation mode and each gets its own former mode back, also after an error; no
    generator of torch advances; nothing is kept for backward.

    Raises: ValueError if the images are not uint8 ``(n, c, h, w)`` or the features are not ``(b, p)``.
    """

    def one_view(batch: Tensor, index: Tensor) -> list[Tensor]:
        return [centre_view(batch, size, tuple(mean), tuple(std))]

    return _extract(encode, images, one_view, batch_size, device, autocast, progress, group)[0]


def extract_views(
    encode: Encode,
    images: Tensor | _HasImages,
    views: MakesViews,
    *,
    epoch: int = 0,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
    group: Group = None,
) -> list[Features]:
    """Features of random views of images, one :class:`Features` per view, for two-view instance retrieval.

    Args:
        views: called as ``views(batch, index=..., epoch=..., seed=...)``, such as
            ``isosphere.data.Views(recipe)``; image i of all ranks' has index i, so that the views depend on
            (seed, epoch, i) and neither on the batch size nor on the number of ranks.

    Everything else as :func:`extract`.
    """

    def all_views(batch: Tensor, index: Tensor) -> list[Tensor]:
        return list(views(batch, index=index, epoch=epoch, seed=seed))

    return _extract(encode, images, all_views, batch_size, device, autocast, progress, group)


def _extract(
    encode: Encode,
    images: Tensor | _HasImages,
    views: Callable[[Tensor, Tensor], list[Tensor]],
    batch_size: int,
    device: torch.device | str | None,
    autocast: torch.dtype | None,
    progress: Progress | None,
    group: Group,
) -> list[Features]:
    pixels = images if isinstance(images, Tensor) else images.images
    where = _device(encode, pixels, device)
    counts = row_counts(len(pixels), _meeting_place(where, group), group)
    if pixels.ndim != 4 or pixels.dtype != torch.uint8 or sum(counts) == 0:
        raise ValueError(
            f"images: got {pixels.dtype} of shape {tuple(pixels.shape)}, expected uint8 (n, channels, "
            f"height, width), n >= 1"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    first = first_row(counts, group)
    parts: list[list[tuple[Tensor, Tensor]]] = []
    with _quietly(_module(encode), where):
        for start in range(0, len(pixels), batch_size):
            batch = pixels[start : start + batch_size].to(where)
            index = torch.arange(first + start, first + start + len(batch), device=where)
            parts.append([_encode(encode, view, autocast) for view in views(batch, index)])
            if progress is not None:
                progress(start + len(batch), len(pixels))
    columns = (
        [[torch.cat([part[v][layer] for part in parts]) for layer in (0, 1)] for v in range(len(parts[0]))]
        if parts
        else []
    )
    return [Features(*pair) for pair in _gathered(columns, counts, _meeting_place(where, group), group)]


def _gathered(
    columns: list[list[Tensor]], counts: list[int], place: torch.device, group: Group
) -> list[list[Tensor]]:
    """The rows of all ranks, per view and output; a rank without images learns the dimensions from the others."""
    if len(counts) == 1:
        return columns
    shape = torch.zeros(3, dtype=torch.int64, device=place)
    if columns:
        shape = torch.tensor([len(columns), *(x.shape[1] for x in columns[0])], device=place)
    dist.all_reduce(shape, dist.ReduceOp.MAX, group=group or None)
    views, *dims = shape.tolist()
    columns = columns or [[torch.empty(0, dim) for dim in dims] for _ in range(views)]
    return [[gather_rows(x.to(place), counts, group).cpu() for x in pair] for pair in columns]


def _meeting_place(where: torch.device, group: Group) -> torch.device:
    """Where the ranks' tensors meet: NCCL moves those of a GPU, gloo those of the CPU."""
    if group is not False and dist.is_available() and dist.is_initialized():
        return where if dist.get_backend(group) == "nccl" else torch.device("cpu")
    return torch.device("cpu")


def _encode(encode: Encode, view: Tensor, autocast: torch.dtype | None) -> tuple[Tensor, Tensor]:
    with torch.autocast(view.device.type, dtype=autocast, enabled=autocast is not None):
        output = encode(view)
    backbone, head = (output, output) if isinstance(output, Tensor) else output
    for name, x in (("features", backbone), ("embedding", head)):
        if x.ndim != 2 or len(x) != len(view):
            raise ValueError(
                f"encode: got {name} of shape {tuple(x.shape)}, expected ({len(view)}, dimensions)"
            )
    return backbone.float().cpu(), head.float().cpu()


def _module(encode: Encode) -> nn.Module | object | None:
    return encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)


def _device(encode: Encode, pixels: Tensor, device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    module = _module(encode)
    first = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    return pixels.device if first is None else first.device


@contextmanager
def _quietly(module: nn.Module | object | None, device: torch.device) -> Iterator[None]:
    """Evaluation mode, no graph, torch's generators untouched; each module gets its own mode back."""
    modes = {m: m.training for m in module.modules()} if isinstance(module, nn.Module) else {}
    devices = [device] if device.type == "cuda" else []
    try:
        for m in modes:
            m.training = False
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        for m, training in modes.items():
            m.training = training
