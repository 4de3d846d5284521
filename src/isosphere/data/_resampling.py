"""One resampling per view, antialiased where the view shrinks its image.

Upright boxes are two small matrix products, ``rows @ image @ columns^T``: the triangle filter of an
antialiased resize is separable, and flips and a Gaussian blur are part of the same matrices. Turned or
sheared boxes are sampled bilinearly from the image or, where the view shrinks it, from a copy that was
smoothed as far as the shrinking asks for; these copies are made once per image and shared by its views.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from isosphere.data._geometry import Placement
from isosphere.data._pictures import Pictures
from isosphere.devices import constant

Padding = str


def chosen_rows(gate: Tensor) -> Tensor | slice:
    """The rows where ``gate`` holds, to spare the rest; all rows where looking would stall a device."""
    return gate.nonzero().flatten() if gate.device.type == "cpu" else slice(None)


def resize_matrix(
    centre: Tensor, half: Tensor, source: int, size: int, length: Tensor | None = None
) -> Tensor:
    """Weights of an antialiased linear resize along one axis: of the interval ``centre ± half`` to ``size``
    pixels.

    Row i is a triangle of half-width ``max(|step|, 1)`` image pixels around the point that view pixel i comes
    from, normalised over the pixels that exist; a negative ``half`` mirrors. This is the antialiased bilinear
    filter of PIL and torchvision, except that image pixels just outside the box take part in its border.

    Shape: centre, half (*, n) in pixels; length (n,), of the source pixels those that exist, None for all; result
    (*, n, size, source); rows sum to 1.
    """
    output, pixel = _output_points(size, centre.device), _pixel_centres(source, centre.device)
    inverse_support = (half.abs() * (2.0 / size)).clamp_min_(1.0).reciprocal_()
    scaled = (centre[..., None] + half[..., None] * output) * inverse_support[..., None]
    weights = scaled[..., None] - (inverse_support[..., None] * pixel)[..., None, :]
    weights.abs_().neg_().add_(1.0).clamp_min_(0.0)
    if length is not None:
        weights.mul_((pixel < length[:, None])[:, None, :])
    return weights.div_(weights.sum(dim=-1, keepdim=True))


@lru_cache(maxsize=64)
def _output_points(size: int, device: torch.device) -> Tensor:
    """Centres of a view's pixels in (-1, 1), kept on the device."""
    return ((torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0).to(device)


@lru_cache(maxsize=64)
def _pixel_centres(source: int, device: torch.device) -> Tensor:
    return (torch.arange(source, dtype=torch.float32) + 0.5).to(device)


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Weights of a Gaussian blur along one axis, mirrored at the borders' pixel centres as torchvision's.

    A sigma of 0 gives the identity exactly.

    Shape: sigma (n,) in pixels, result (n, size, size); rows sum to 1.
    """
    numerator, between, before, beyond = _blur_distances(size, sigma.device)
    # Exponents below -80 would give denormal numbers, which are slow and mean nothing here.
    exponent = numerator / sigma.square().clamp_min(1e-3)[:, None]
    table = torch.exp(exponent.clamp_min(-80.0)).masked_fill_(exponent < -80.0, 0.0)
    weights = table[:, between]
    weights[:, :, 1:] += table[:, before]
    weights[:, :, : size - 1] += table[:, beyond]
    return weights.div_(weights.sum(dim=2, keepdim=True))


@lru_cache(maxsize=16)
def _blur_distances(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``-distance^2/2`` of all distances, and those between pixels i and j; pixel j also appears at -j and at
    ``2 (size - 1) - j``, except the border pixel, which is its own image.
    """
    last, distance, position = size - 1, torch.arange(2 * size - 1, dtype=torch.float32), torch.arange(size)
    between = (position[:, None] - position).abs()
    before, beyond = position[:, None] + position[1:], 2 * last - position[:, None] - position[:last]
    exponent = -0.5 * distance.square()
    return exponent.to(device), between.to(device), before.to(device), beyond.to(device)


def sample_upright(
    images: Tensor,
    placement: Placement,
    size: int,
    sigma: Tensor | None = None,
    extent: Tensor | None = None,
) -> Tensor:
    """Fetch upright boxes, blurred by ``sigma`` view pixels.

    Shape: images (n, c, h, w) floating, sigma (n,) or None, result (n, c, size, size), a permuted view of (c,
    n, ...); extent (n, 2), width and height of the image in each upper left corner, None for all of it.
    """
    height, width = images.shape[2:]
    centre, half = placement.centre.T, placement.linear.diagonal(dim1=1, dim2=2).T
    if extent is None and height == width and images.device.type != "cpu":
        columns, rows = resize_matrix(centre, half, width, size)  # half the launches
    else:  # one after the other stays in a CPU's caches
        across, down = (None, None) if extent is None else extent.unbind(1)
        columns = resize_matrix(centre[0], half[0], width, size, across)
        rows = resize_matrix(centre[1], half[1], height, size, down)
    if sigma is not None:
        some = chosen_rows(sigma > 0)
        weights = blur_matrix(sigma[some], size)
        rows[some], columns[some] = torch.bmm(weights, rows[some]), torch.bmm(weights, columns[some])
    return _separable(rows, images, columns)


_BLOCK = 28
"""View pixels whose weights are kept together: fewer make smaller products, of less that is zero, and more of them."""


class _Bands(NamedTuple):
    """The rows of :func:`resize_matrix` without their zeros: those of block b begin at source pixel ``start[i][b]``.

    Shape: weights (n, size, taps).
    """

    weights: Tensor
    start: list[list[int]]
    stop: list[list[int]]


def _bands(centre: Tensor, half: Tensor, source: Tensor, size: int, block: int) -> _Bands:
    """Weights of an antialiased linear resize along one axis, of images of ``source`` (n,) pixels each."""
    first = torch.arange(0, size, block)
    output = (torch.arange(size, dtype=centre.dtype) + 0.5) * (2.0 / size) - 1.0
    support = (half.abs() * (2.0 / size)).clamp_min_(1.0)[:, None]
    point = centre[:, None] + half[:, None] * output
    ends = torch.stack([point[:, first], point[:, (first + block - 1).clamp_max(size - 1)]])
    last = source[:, None] - 1
    start = torch.minimum((ends.amin(0) - support).floor().clamp_min(0), last)
    stop = torch.minimum((ends.amax(0) + support).ceil(), last) + 1
    taps = torch.arange(int((stop - start).max()), dtype=centre.dtype)
    begin = start.repeat_interleave(block, 1)[:, :size]
    pixel = begin[:, :, None] + taps
    weights = (1.0 - ((point[:, :, None] - 0.5 - pixel) / support[:, :, None]).abs_()).clamp_min_(0.0)
    weights.mul_(pixel < source[:, None, None])
    weights.div_(weights.sum(dim=2, keepdim=True))
    return _Bands(weights, start.long().tolist(), stop.long().tolist())


def sample_boxes(images: Tensor | Pictures | Sequence[Tensor], placement: Placement, size: int) -> Tensor:
    """As :func:`sample_upright` on a CPU, image by image: of each nothing is touched but its box, and of the matrices
    nothing but what is not zero. For small views the many small products cost more than they spare.

    Shape: images (n, c, h, w) or of any shapes, uint8 or floating, result (n, c, size, size).
    """
    n, channels = len(images), images[0].shape[0]
    block = math.ceil(size / max(1, round(size / _BLOCK)))
    shapes = torch.tensor([image.shape[1:] for image in images], dtype=torch.float32)
    rows = _bands(placement.centre[:, 1], placement.linear[:, 1, 1], shapes[:, 0], size, block)
    columns = _bands(placement.centre[:, 0], placement.linear[:, 0, 0], shapes[:, 1], size, block)
    views = torch.empty(n, channels, size, size)
    for i in range(n):
        top, left = min(rows.start[i]), min(columns.start[i])
        box = images[i][:, top : max(rows.stop[i]), left : max(columns.stop[i])].transpose(0, 1)
        box = box.to(
            torch.float32, memory_format=torch.contiguous_format
        )  # (h, c, w): its rows are one matrix
        narrow = box.new_empty(size, *box.shape[1:])
        for b, (start, stop) in enumerate(zip(rows.start[i], rows.stop[i], strict=True)):
            lines = slice(b * block, (b + 1) * block)
            weights = rows.weights[i, lines, : stop - start]
            torch.mm(weights, box[start - top : stop - top].flatten(1), out=narrow[lines].flatten(1))
        for b, (start, stop) in enumerate(zip(columns.start[i], columns.stop[i], strict=True)):
            lines = slice(b * block, (b + 1) * block)
            weights = columns.weights[i, lines, : stop - start].t()
            for channel in range(channels):
                torch.mm(
                    narrow[:, channel, start - left : stop - left], weights, out=views[i, channel, :, lines]
                )
    return views


def blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur square views by ``sigma`` pixels each, in place.

    Shape: views (n, c, s, s), sigma (n,).
    """
    some = chosen_rows(sigma > 0)
    weights = blur_matrix(sigma[some], views.shape[-1])
    views[some] = _separable(weights, views[some].contiguous(), weights)
    return views


def _separable(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """``rows @ image @ columns^T`` per channel; channels lie apart, so that no product copies its factors."""
    n, c, h, w = images.shape
    narrow = torch.bmm(images.reshape(n, c * h, w), columns.transpose(1, 2)).view(n, c, h, columns.shape[1])
    planes = images.new_empty(c, n, rows.shape[1], columns.shape[1])
    for channel in range(c):
        torch.bmm(rows, narrow[:, channel], out=planes[channel])
    return planes.transpose(0, 1)


@lru_cache(maxsize=64)
def smoothing_matrix(size: int, step: float, device: torch.device) -> Tensor:
    """The discrete Gaussian that lets an image of ``size`` pixels be sampled bilinearly ``step`` pixels
    apart.

    A triangle of half-width ``step`` has variance step^2 / 6, of which bilinear sampling brings 1/6; the
    rest, ``(step^2 - 1)/6``, is the time (halved) of the heat equation on the row of pixels with closed ends:
    ``exp(variance/2 Laplacian)``. Unlike a sampled Gaussian this has the right variance when it is below a
    pixel.

    Shape: (size, size) float32; rows and columns sum to 1.
    """
    laplacian = torch.zeros(size, size, dtype=torch.float64)
    laplacian.diagonal(1).fill_(1.0)
    laplacian.diagonal(-1).fill_(1.0)
    laplacian -= torch.diag(laplacian.sum(dim=1))
    variance = max(step * step - 1.0, 0.0) / 6.0
    return torch.linalg.matrix_exp(0.5 * variance * laplacian).float().to(device)


class Levels:
    """Copies of a batch, smoothed for sampling at distances from ``low`` to ``high`` pixels, at most sqrt 2
    apart.

    A view takes the level whose range of distances holds its own; where it does not shrink the image it takes
    the image itself.
    """

    def __init__(self, images: Tensor, low: float, high: float) -> None:
        self.sharp = low < 1.0 or high <= 1.0
        self.low, self.high = max(low, 1.0), max(high, 1.0)
        octaves = math.log2(self.high / self.low)
        self.count = max(math.ceil(2.0 * octaves - 1e-6), 1) if high > 1.0 else 0
        levels = [images] if self.sharp else []
        for level in range(self.count):
            step = self.low * 2.0 ** (octaves * (level + 0.5) / self.count)
            levels.append(_smooth(images, step))
        self.batch = images.shape[0]
        self.stack = levels[0] if len(levels) == 1 else torch.cat(levels)

    def pick(self, step: Tensor) -> Tensor:
        """The image for each view, sampled at distance ``step``. Shape: step (n,), result (n, c, h, w)."""
        if self.stack.shape[0] == self.batch:
            return self.stack
        width = max(math.log(self.high / self.low) / self.count, 1e-6)
        level = ((step / self.low).log() / width).floor().clamp(0, self.count - 1).long()
        if self.sharp:
            level = torch.where(step < 1.0, 0, level + 1)
        return self.stack[level * self.batch + torch.arange(self.batch, device=step.device)]


def _smooth(images: Tensor, step: float) -> Tensor:
    n, c, h, w = images.shape
    columns = smoothing_matrix(w, step, images.device)
    rows = smoothing_matrix(h, step, images.device)
    across = (images.reshape(-1, w) @ columns).view(n * c, h, w)
    return torch.bmm(rows.expand(n * c, h, h), across).view(n, c, h, w)


def sample_turned(levels: Levels, placement: Placement, size: int, padding: Padding) -> Tensor:
    """Fetch turned or sheared boxes; what leaves the image is filled by ``padding``.

    Shape: result (n, c, size, size).
    """
    linear = placement.linear
    area = (linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]).abs()
    images = levels.pick(area.sqrt() * (2.0 / size))
    n, _, height, width = images.shape
    # From view pixels to grid_sample's coordinates, which run from -1 to 1 between the image's outer edges.
    scale = constant((2.0 / width, 2.0 / height), images.device)
    maps = torch.cat([linear * scale[:, None], (placement.centre * scale - 1.0)[:, :, None]], dim=2)
    points = maps.view(2 * n, 3) @ _view_points(size, images.device)
    grid = points.view(n, 2, size, size).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


@lru_cache(maxsize=32)
def _view_points(size: int, device: torch.device) -> Tensor:
    """A view's pixel centres as rows u, v and 1, u and v in (-1, 1). Shape: (3, size^2)."""
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([u.flatten(), v.flatten(), torch.ones_like(u).flatten()]).to(device)
