"""Random views of a batch of images, on the device where the batch is.

Every random number is a function of (seed, epoch, image, view number): a view does not depend on the batch
around its image, on the worker, or on the rank.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from isosphere.data import _colour as colour
from isosphere.data import _geometry as geometry
from isosphere.data._colour import ColourMap, Units
from isosphere.data._geometry import Frame, Placement
from isosphere.data._pictures import Pictures
from isosphere.data._random import normal, uniform
from isosphere.data._recipes import ViewRecipe
from isosphere.data._resampling import Levels, blur, sample_boxes, sample_turned, sample_upright
from isosphere.devices import constant, send

# Bytes of float images worked on at once: on a CPU what its caches hold, elsewhere what its memory spares.
_CHUNK_CPU, _CHUNK_ELSEWHERE = 4 << 20, 512 << 20

MOST_PASSES = 16
"""Passes of an image through a network whose features are averaged, at the most: more has not been looked at."""
_CUT = 1 / 40
"""Share of a side that is cut away at each end for each further pair of passes."""

# Columns of the uniform numbers of one view. New ones go to the end: the others keep their values.
_PLACE = slice(0, geometry.PLACE_DRAWS)
_COLOUR = slice(_PLACE.stop, _PLACE.stop + colour.COLOUR_DRAWS)
_BLUR_GATE, _BLUR_SIGMA, _SOLARISE, _NOISE_SIZE, _NOISE_START = range(_COLOUR.stop, _COLOUR.stop + 5)
_ERASE = slice(_NOISE_START + 1, _NOISE_START + 1 + colour.ERASE_DRAWS)
_BOXES = slice(_ERASE.stop, _ERASE.stop + geometry.BOX_DRAWS)


class _Plan(NamedTuple):
    """All that is drawn for one view of each image; None where the recipe has no such step."""

    placement: Placement
    colours: ColourMap
    sigma: Tensor | None
    solarise: Tensor | None
    noise: Tensor | None
    noise_start: Tensor | None
    erase: Tensor | None


def _mapped(plan: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Every tensor in a plan, or in several, changed."""
    if isinstance(plan, Tensor) or plan is None:
        return None if plan is None else change(plan)
    parts = [_mapped(part, change) for part in plan]
    return type(plan)(*parts) if isinstance(plan, tuple) else parts


def _rows(plan: Any, rows: slice | Tensor) -> Any:
    """These rows of every tensor in a plan or a part of it."""
    return _mapped(plan, lambda x: x[rows])


def _on(plans: list[_Plan], device: torch.device) -> list[_Plan]:
    """Plans on a device: one copy that nobody waits for, for all numbers of a type."""
    found: list[Tensor] = []
    _mapped(plans, lambda x: found.append(x) or x)
    if found[0].device == device:
        return plans
    kinds = {dtype: [x.flatten() for x in found if x.dtype == dtype] for dtype in {x.dtype for x in found}}
    there = {
        dtype: iter(send(torch.cat(parts), device).split([len(part) for part in parts]))
        for dtype, parts in kinds.items()
    }
    return _mapped(plans, lambda x: next(there[x.dtype]).view(x.shape))


class Views:
    """Draws the views of a recipe, each by one geometric resampling and one colour map.

    ``Views(recipe)(images, index=..., epoch=..., seed=...)`` gives a list of ``recipe.views`` tensors, the
    global views first.

    Shape: images (n, c, h, w), or `Pictures` of any shapes, index (n,) integers; results (n, c, s, s)
    float32, s the size of that view.
    Scale: images are uint8 in 0..255 or floating point in [0, 1]; results are (x - mean) / std per channel.
    Raises: ValueError or TypeError for images or an index of the wrong shape or dtype.
    Numerics: an image's views depend on (seed, epoch, index) alone, up to the rounding of float32.
    """

    def __init__(self, recipe: ViewRecipe) -> None:
        self.recipe = recipe

    def __repr__(self) -> str:
        return f"Views({self.recipe!r})"

    @property
    def in_pairs(self) -> "Views":
        """The same, of two views at the least: what is to be compared with another view has one."""
        if self.recipe.views > 1:
            return self
        return Views(self.recipe.model_copy(update={"global_views": 2}))

    def scaled(self, share: float) -> "Views":
        """The same with sides times `share`: even, and at least 8 pixels."""
        law = self.recipe
        sides = {"size": law.size, "local_size": law.local_size}
        smaller = {
            name: max(8, round(side * share / 2) * 2) for name, side in sides.items() if side is not None
        }
        return Views(law.model_copy(update=smaller))

    def __call__(self, images: Tensor | Pictures, *, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        _check(images)
        if index.shape != (len(images),):
            raise ValueError(
                f"index has shape {tuple(index.shape)}; expected ({len(images)},): one number per image."
            )
        # Under autocast the products below would round to 16 bits, before the network rounds again.
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self._draw_all(images, index, epoch, seed)

    def _draw_all(self, images: Tensor | Pictures, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        recipe, n, device = self.recipe, len(images), images.device
        shapes = _shapes(images)
        frame = geometry.frame([shape[1:] for shape in shapes], recipe, index.device)
        sizes, c = [recipe.view_size(view) for view in range(recipe.views)], shapes[0][0]
        units = _units(images, c, recipe)
        plans = _on(_plans(recipe, index, epoch, seed, frame, c, units), device)
        results = [torch.empty(n, c, size, size, device=device) for size in sizes]
        budget = _CHUNK_CPU if device.type == "cpu" else _CHUNK_ELSEWHERE
        chunk = max(16, budget * len(shapes) // (4 * sum(math.prod(shape) for shape in shapes)))
        upright = geometry.is_upright(recipe)
        alone = [upright and size >= _ALONE and _are_drawn_alone(images) for size in sizes]
        for start in range(0, n, chunk):
            rows = slice(start, start + chunk)
            groups = [] if all(alone) else _groups(images[rows], upright)
            for view, (size, result) in enumerate(zip(sizes, results, strict=True)):
                plan, out = _rows(plans[view], rows), result[rows]
                if alone[view]:
                    x = sample_boxes(images[rows], plan.placement, size)
                else:
                    x = _sampled(recipe, view, groups, plan, out)
                if plan.sigma is not None and (alone[view] or not upright):
                    x = blur(x, plan.sigma)
                _render(recipe, x, units, plan, out)
        return results


_ALONE = 96
"""Side from which on a CPU draws an upright view from its image alone, which is then faster than in groups."""


def _are_drawn_alone(images: Tensor | Pictures) -> bool:
    """Squares keep the products of before, and with them runs on squares their bits."""
    square = isinstance(images, Tensor) and images.shape[2] == images.shape[3]
    return images.device.type == "cpu" and not square


def _shapes(images: Tensor | Pictures) -> list[tuple[int, int, int]]:
    """Channels, height and width of each image; once where they are alike."""
    if isinstance(images, Pictures):
        return images.shapes
    c, height, width = images.shape[1:]
    return [(c, height, width)]


class _Group(NamedTuple):
    """Images that are resampled together: their places in the chunk (None: all of it), their pixels, what of these is
    theirs (None: all), and their smoothed copies by range of distances.
    """

    rows: Tensor | None
    pixels: Tensor
    extent: Tensor | None
    levels: dict[tuple[float, float], Levels]


_BUCKETS = 4
"""Of a short side: images are padded to a multiple of it, so that those of nearly one shape share their products."""


def _groups(images: Tensor | Pictures, upright: bool) -> list[_Group]:
    """A chunk as float tensors. Upright boxes look at nothing beside their image, so that it may be padded; turned ones
    do, and only images of one shape go together.
    """
    if isinstance(images, Tensor):
        return [_Group(None, images.float(), None, {})]
    shapes = [shape[1:] for shape in images.shapes]
    step = max(1, min(map(min, shapes)) // _BUCKETS) if upright else 1
    members: dict[tuple[int, int], list[int]] = {}
    for k, (height, width) in enumerate(shapes):
        members.setdefault((-(-height // step), -(-width // step)), []).append(k)
    groups = []
    for chosen in members.values():
        height, width = (max(shapes[k][axis] for k in chosen) for axis in (0, 1))
        pixels = torch.zeros(len(chosen), images.channels, height, width, device=images.device)
        for place, k in zip(pixels, chosen, strict=True):
            place[:, : shapes[k][0], : shapes[k][1]] = images[k]
        alike = len({shapes[k] for k in chosen}) == 1
        extent = send(torch.tensor([shapes[k][::-1] for k in chosen], dtype=torch.float32), images.device)
        rows = send(torch.tensor(chosen), images.device)
        groups.append(_Group(rows, pixels, None if alike else extent, {}))
    return groups


def _plans(
    recipe: ViewRecipe, index: Tensor, epoch: int, seed: int, frame: Frame, channels: int, units: Units
) -> list[_Plan]:
    """What is drawn for every view of each image: for all global views at once, and for all local ones."""
    found, n = [], len(index)
    for views in (range(recipe.global_views), range(recipe.global_views, recipe.views)):
        if views:
            drawn = _draw(recipe, views, index, epoch, seed, frame, channels, units)
            rows = (slice(k * n, (k + 1) * n) for k in range(len(views)))
            found += [
                _of_view(_rows(drawn, own), recipe, view) for own, view in zip(rows, views, strict=True)
            ]
    return found


def _draw(
    recipe: ViewRecipe,
    views: range,
    index: Tensor,
    epoch: int,
    seed: int,
    frame: Frame,
    channels: int,
    units: Units,
) -> _Plan:
    """The plan of views of one size, one view's rows after the other's."""
    count = _BOXES.stop if recipe.placement == "inside" else _BOXES.start
    u = uniform(seed, epoch, index, views, count).flatten(0, 1)
    frame = Frame(*(x if len(x) == 1 else x.repeat(len(views), 1) for x in frame))
    low, high = (recipe.view_size(views[0]) * share for share in recipe.blur_sigma)

    def gate(column: int, name: Literal["blur", "solarise"]) -> Tensor | None:
        odds = tuple(recipe.probability(name, view) for view in views)
        below = u[:, column].view(len(views), -1) < constant(odds, u.device)[:, None]
        return below.flatten() if any(odds) else None

    blur = gate(_BLUR_GATE, "blur")
    return _Plan(
        placement=geometry.place(u[:, _PLACE], u[:, _BOXES], frame, recipe, views[0]),
        colours=colour.colour_map(colour.jitter(u[:, _COLOUR], recipe), channels, units),
        sigma=None if blur is None else torch.where(blur, low + (high - low) * u[:, _BLUR_SIGMA], 0.0),
        solarise=gate(_SOLARISE, "solarise"),
        noise=recipe.noise * u[:, _NOISE_SIZE] if recipe.noise else None,
        noise_start=(u[:, _NOISE_START] * colour.NOISE_BANK).long() if recipe.noise else None,
        erase=colour.erased_boxes(u[:, _ERASE], recipe.erase, recipe.erase_area) if recipe.erase else None,
    )


def _of_view(plan: _Plan, recipe: ViewRecipe, view: int) -> _Plan:
    """A plan without the steps that this view never takes."""
    never = {name: None for name, step in _GATED.items() if not recipe.probability(step, view)}
    return plan._replace(**never)


_GATED: dict[str, Literal["blur", "solarise"]] = {"sigma": "blur", "solarise": "solarise"}


def _render(recipe: ViewRecipe, x: Tensor, units: Units, plan: _Plan, out: Tensor) -> None:
    offset = colour.offset_of(plan.colours, x.mean(dim=(2, 3)), units)
    colour.clamp(colour.apply_affine(x, plan.colours.matrix, offset, out), units)
    if plan.solarise is not None:
        colour.solarise(out, plan.solarise, recipe.solarise_threshold, units)
    if plan.noise is not None and plan.noise_start is not None:
        bank = _noise_bank(out.device, out[0].numel())
        colour.add_noise(out, plan.noise, plan.noise_start, bank, units, recipe.grey_noise)
    if plan.erase is not None:
        colour.erase(out, plan.erase, units)


def _sampled(recipe: ViewRecipe, view: int, groups: Sequence[_Group], plan: _Plan, like: Tensor) -> Tensor:
    """The boxes of a chunk, group by group, before any colour; upright ones are blurred."""
    if groups[0].rows is None:
        return _sample(recipe, view, groups[0], plan)
    n, c, size, _ = like.shape
    x = like.new_empty(c, n, size, size).transpose(0, 1)  # the order in memory of upright boxes
    for group in groups:
        if (rows := group.rows) is not None:
            x[rows] = _sample(recipe, view, group, _rows(plan, rows))
    return x


def _sample(recipe: ViewRecipe, view: int, group: _Group, plan: _Plan) -> Tensor:
    size = recipe.view_size(view)
    if geometry.is_upright(recipe):
        return sample_upright(group.pixels, plan.placement, size, plan.sigma, group.extent)
    steps = geometry.shrinking(recipe, view, *group.pixels.shape[2:])
    if steps not in group.levels:
        group.levels[steps] = Levels(group.pixels, *steps)
    return sample_turned(group.levels[steps], plan.placement, size, recipe.padding)


@lru_cache(maxsize=4)
def _noise_bank(device: torch.device, extra: int) -> Tensor:
    """Normal numbers that all views share, each from a random place on; the same bits on any device."""
    row = 1 << 10
    rows = -(-(colour.NOISE_BANK + extra) // row)
    return normal(0, 0, torch.arange(rows), 0, row).flatten().to(device)


def _check(images: Tensor | Pictures) -> None:
    if isinstance(images, Pictures):
        return
    if images.ndim != 4 or images.shape[1] < 1:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; expected (batch, channels, height, width)."
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(
            f"images have dtype {images.dtype}; expected uint8 in 0..255, or floating point in [0, 1]."
        )


def _units(images: Tensor | Pictures, channels: int, recipe: ViewRecipe) -> Units:
    """Normalisation for these images; three means serve grey images by their average."""
    unit = 1 / 255 if isinstance(images, Pictures) or images.dtype == torch.uint8 else 1.0
    return Units(unit, *(_channels(values, channels) for values in (recipe.mean, recipe.std)))


def _channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == channels:
        return tuple(values)
    if len(values) == 1 or channels == 1:
        return tuple(values) * channels if len(values) == 1 else (sum(values) / len(values),)
    raise ValueError(f"images have {channels} channels; expected {len(values)}, as there are means.")


def centre_view(
    images: Tensor | Pictures, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """The one deterministic view for evaluation: the largest centred square, resized with antialiasing,
    normalised.

    Shape: images (n, c, h, w) uint8 in 0..255 or floating point in [0, 1], or `Pictures` of one short side; result
    (n, c, size, size) float32.
    Raises: ValueError or TypeError for images of the wrong shape or dtype.
    """
    _check(images)
    images = images.squares() if isinstance(images, Pictures) else images
    n, c, height, width = images.shape
    side = min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    unit = 1 / 255 if images.dtype == torch.uint8 else 1.0
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        x = images[:, :, top : top + side, left : left + side].float()
        if side != size:
            half = x.new_full((n,), side / 2)
            placement = Placement(half[:, None].expand(n, 2), torch.diag_embed(half[:, None].expand(n, 2)))
            x = sample_upright(x, placement, size)
        means, stds = (x.new_tensor(_channels(v, c))[:, None, None] for v in (mean, std))
        return ((x * unit - means) / stds).contiguous()


def another_look(images: Tensor, number: int) -> Tensor:
    """What a network is shown in a further pass of the same images: (n, c, h, w) as they are, mirrored, then both again
    with the outer fortieth of each side cut away, and so on.
    """
    cut = round(number // 2 * min(images.shape[2:]) * _CUT)
    height, width = images.shape[2:]
    shown = images[:, :, cut : height - cut, cut : width - cut]
    return shown.flip(3) if number % 2 else shown
