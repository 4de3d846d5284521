"""Frozen features of images, computed batch by batch in evaluation mode, leaving no trace."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from isosphere.data import Pictures, Views, another_look, centre_view
from isosphere.devices import has_room
from isosphere.models import evaluation_mode, memory_format
from isosphere.reductions import Group, first_row, gather_rows, row_counts
from isosphere.threads import some_work, watched

Encode = Callable[[Tensor], "tuple[Tensor, Tensor] | Tensor"]
Progress = Callable[[int, int], None]

PIXELS_AT_ONCE = 32 * 224**2
"""Pixels of a channel that pass through a network at once on a CPU: EfficientNet-Lite0 takes .7 GB for them."""


class _HasImages(Protocol):
    @property
    def images(self) -> Tensor | Pictures: ...


class MakesViews(Protocol):
    """Random views of a batch, as :class:`isosphere.data.Views` makes them."""

    def __call__(
        self, images: Tensor | Pictures, *, index: Tensor, epoch: int, seed: int
    ) -> Sequence[Tensor]: ...


def first_two(views: MakesViews) -> MakesViews:
    """The same random views, only the first two of each image."""
    drawn = views.in_pairs if isinstance(views, Views) else views

    def pair(images: Tensor | Pictures, *, index: Tensor, epoch: int, seed: int) -> Sequence[Tensor]:
        return drawn(images, index=index, epoch=epoch, seed=seed)[:2]

    return pair


@dataclass(frozen=True, slots=True)
class Features:
    """What an encoder says of n images: backbone output ``(n, p)``, head output ``(n, d)``; float32."""

    backbone: Tensor
    head: Tensor

    def __len__(self) -> int:
        return len(self.backbone)

    def cpu(self) -> "Features":
        """The same in the memory of the CPU."""
        backbone = self.backbone.cpu()
        return Features(backbone, backbone if self.head is self.backbone else self.head.cpu())


def packed(views: Sequence[Features]) -> dict[str, Tensor]:
    """Features of several views as tensors by name, as a file holds them; once where the head's are the backbone's."""
    return {
        f"{layer}/{v}": getattr(x, layer)
        for v, x in enumerate(views)
        for layer in ("backbone", "head")
        if layer == "backbone" or x.head is not x.backbone
    }


def unpacked(found: Mapping[str, Tensor]) -> list[Features]:
    """The views that :func:`packed` packed."""
    views = sum(name.startswith("backbone/") for name in found)
    backbones = [found[f"backbone/{v}"] for v in range(views)]
    return [Features(x, found.get(f"head/{v}", x)) for v, x in enumerate(backbones)]


def averaged(passes: Sequence[Features]) -> Features:
    """Of several passes of the same images: the mean direction at the mean length, so that unit rows stay unit rows."""
    if len(passes) == 1:
        return passes[0]
    backbone = _mean([one.backbone for one in passes])
    alike = all(one.head is one.backbone for one in passes)
    return Features(backbone, backbone if alike else _mean([one.head for one in passes]))


def _mean(rows: Sequence[Tensor]) -> Tensor:
    direction = torch.stack([functional.normalize(x, dim=1) for x in rows]).mean(0)
    length = torch.stack([x.norm(dim=1, keepdim=True) for x in rows]).mean(0)
    return functional.normalize(direction, dim=1) * length


# --- looks: what is computed of each image ------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What is computed of images: rows by name, from pixels uint8 ``(b, c, s, s)`` and the images' positions ``(b,)``.
    A source that keeps shapes is read as `Pictures`, for the looks that take them.

    `module`, if there is one, is in evaluation mode meanwhile.
    """

    see: Callable[[Any, Tensor], Mapping[str, Tensor]]
    module: nn.Module | None = None


def centre_look(
    encode: Encode,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    autocast: torch.dtype | None = None,
    passes: int = 1,
) -> Look:
    """Features of the deterministic centre view: ``backbone/0`` and ``head/0``. Arguments as of :func:`extract`."""

    def see(pixels: Tensor | Pictures, index: Tensor) -> Mapping[str, Tensor]:
        squares = pixels.squares() if isinstance(pixels, Pictures) else pixels
        looks = (another_look(squares, number) for number in range(passes))
        views = (centre_view(look, size, tuple(mean), tuple(std)) for look in looks)
        return packed([averaged([_encoded(encode, view, autocast) for view in views])])

    return Look(see, _module(encode))


def views_look(
    encode: Encode, views: MakesViews, *, epoch: int = 0, seed: int = 0, autocast: torch.dtype | None = None
) -> Look:
    """Features of random views, ``backbone/V`` and ``head/V``. Arguments as of :func:`extract_views`."""

    def see(pixels: Tensor | Pictures, index: Tensor) -> Mapping[str, Tensor]:
        drawn = views(pixels, index=index, epoch=epoch, seed=seed)
        return packed([_encoded(encode, view, autocast) for view in drawn])

    return Look(see, _module(encode))


def look_through(
    batches: Iterable[tuple[Tensor | Pictures, Tensor]],
    looks: Mapping[str, Look],
    *,
    capacity: int,
    device: torch.device | str | None = None,
) -> dict[str, dict[str, Tensor]]:
    """The rows of all looks, by look and name, of the images that come in batches (pixels, positions).

    Modules are put in evaluation mode and each gets its own former mode back, also after an error; no generator of
    torch advances; nothing is kept for backward.

    Args:
        capacity: images that will come, at the most. device: where to compute; where the pixels are if None.

    Memory: the rows, and what is computed of one batch. Rows stay where they were computed as long as they take at most
    half of what is free there, else on the CPU.
    """
    tables, threads = {name: _Table(capacity) for name in looks}, watched()
    with ExitStack() as quiet:
        for look in looks.values():
            if look.module is not None:
                quiet.enter_context(evaluation_mode(look.module))
        quiet.enter_context(torch.random.fork_rng(devices=[]))
        quiet.enter_context(torch.no_grad())
        for pixels, index in batches:
            if not len(pixels):
                continue
            where = pixels.device if device is None else device
            placed, begun = (pixels.to(where), index), time.perf_counter()
            for name, look in looks.items():
                tables[name].add(look.see(*placed))
            if threads is not None:
                threads.note((time.perf_counter() - begun) / len(pixels))
                threads.settle(some_work, rounds=1)
    return {name: table.rows() for name, table in tables.items()}


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
        each = x.nbytes // max(1, len(x))
        place = x.device if has_room(each * self._capacity, x.device) else "cpu"
        return torch.empty(self._capacity, *x.shape[1:], dtype=x.dtype, device=place)


def _encoded(encode: Encode, view: Tensor, autocast: torch.dtype | None) -> Features:
    """What an encoder says of views; on a CPU of few large ones at a time, for its memory."""
    height, width = view.shape[-2:]
    count = PIXELS_AT_ONCE // (height * width) if view.device.type == "cpu" else len(view)
    found = [_encoded_at_once(encode, part, autocast) for part in view.split(max(1, count))]
    if len(found) == 1:
        return found[0]
    backbone = torch.cat([x.backbone for x in found])
    alike = all(x.head is x.backbone for x in found)
    return Features(backbone, backbone if alike else torch.cat([x.head for x in found]))


def _encoded_at_once(encode: Encode, view: Tensor, autocast: torch.dtype | None) -> Features:
    with torch.autocast(view.device.type, dtype=autocast, enabled=autocast is not None):
        output = encode(view.contiguous(memory_format=memory_format(view.device)))
    backbone, head = (output, output) if isinstance(output, Tensor) else output
    for name, x in (("features", backbone), ("embedding", head)):
        if x.ndim != 2 or len(x) != len(view):
            raise ValueError(
                f"encode: got {name} of shape {tuple(x.shape)}, expected ({len(view)}, dimensions)"
            )
    return Features(backbone.float(), head.float())


def _module(encode: Encode) -> nn.Module | None:
    owner = encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


# --- of images in memory ------------------------------------------------------------------------------------------


def extract(
    encode: Encode,
    images: Tensor | Pictures | _HasImages,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int = 256,
    passes: int = 1,
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
        passes: how often each image is looked at (:func:`isosphere.data.another_look`): the features are averaged.
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

    look = centre_look(encode, size, mean, std, autocast=autocast, passes=passes)
    return _extract(encode, images, look, batch_size, device, progress, group)[0]


def extract_views(
    encode: Encode,
    images: Tensor | Pictures | _HasImages,
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

    look = views_look(encode, views, epoch=epoch, seed=seed, autocast=autocast)
    return _extract(encode, images, look, batch_size, device, progress, group)


def _extract(
    encode: Encode,
    images: Tensor | Pictures | _HasImages,
    look: Look,
    batch_size: int,
    device: torch.device | str | None,
    progress: Progress | None,
    group: Group,
) -> list[Features]:
    pixels = images if isinstance(images, Tensor | Pictures) else images.images
    where = _device(encode, pixels, device)
    counts = row_counts(len(pixels), _meeting_place(where, group), group)
    if isinstance(pixels, Tensor) and (pixels.ndim != 4 or pixels.dtype != torch.uint8 or sum(counts) == 0):
        raise ValueError(
            f"images: got {pixels.dtype} of shape {tuple(pixels.shape)}, expected uint8 (n, channels, "
            f"height, width), n >= 1"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    first = first_row(counts, group)

    def batches() -> Iterator[tuple[Tensor | Pictures, Tensor]]:
        for start in range(0, len(pixels), batch_size):
            batch = pixels[start : start + batch_size]
            yield batch, torch.arange(first + start, first + start + len(batch))
            if progress is not None:
                progress(start + len(batch), len(pixels))

    rows = look_through(batches(), {"": look}, capacity=len(pixels), device=where)[""]
    seen = unpacked(rows)
    columns = [[x.backbone, x.head] for x in seen]
    found = _gathered(columns, counts, _meeting_place(where, group), group)
    alike = bool(seen) and all(x.head is x.backbone for x in seen)
    return [Features(backbone, backbone if alike else head) for backbone, head in found]


def _gathered(
    columns: list[list[Tensor]], counts: list[int], place: torch.device, group: Group
) -> list[list[Tensor]]:
    """The rows of all ranks, per view and output; a rank without images learns the dimensions from the others."""
    if len(counts) == 1:
        return [[x.cpu() for x in pair] for pair in columns]
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


def _device(encode: Encode, pixels: Tensor | Pictures, device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    module = _module(encode)
    first = None if module is None else next(module.parameters(), None)
    return pixels.device if first is None else first.device
