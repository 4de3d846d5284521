"""Four families of procedural textures: cloud, disk, flake and wood.

Within a family every image follows one law; what tells two images apart is the draw itself, which a rotation
does not change. Each image is a pure function of (family, split, seed, index, size).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ._random import normal, uniform

VERSION = 1
"""Changes whenever the same arguments give another image; part of the name of cached files."""

MIN_SIZE = 16
_SPLITS = {"train": 0, "test": 1, "val": 2}
_MARGIN = 1.25  # fields are drawn on a larger torus and cut, so that opposite edges do not meet


class _Draw:
    """The random numbers of a batch of images of one family and split, one stream a purpose."""

    def __init__(self, family: str, split: str, seed: int, index: Tensor, size: int) -> None:
        self.seed, self.epoch, self.index, self.size = seed, _SPLITS[split], index, size
        self.side = math.ceil(size * _MARGIN)
        self.base = 1 << 16 | list(FAMILIES).index(family) << 8

    def uniform(self, stream: int, *shape: int) -> Tensor:
        u = uniform(self.seed, self.epoch, self.index, self.base + stream, math.prod(shape))
        return u.double().view(len(self.index), *shape)

    def normal(self, stream: int, *shape: int) -> Tensor:
        z = normal(self.seed, self.epoch, self.index, self.base + stream, math.prod(shape))
        return z.double().view(len(self.index), *shape)

    def heavy_tailed(self, stream: int, tail: float, *shape: int) -> Tensor:
        """Symmetric numbers with P(|x| > t) = (1 + t)^-tail."""
        u = self.uniform(stream, *shape)
        sign = torch.where(u < 0.5, -1.0, 1.0)
        return sign * ((1 - (2 * u - 1).abs()).clamp(min=2.0**-24) ** (-1 / tail) - 1)

    def frequencies(self) -> tuple[Tensor, Tensor]:
        """Angular frequencies of the torus, in units of 1 / image side."""
        f = torch.fft.fftfreq(self.side, d=1 / self.size, dtype=torch.float64) * 2 * math.pi
        return f[:, None], f[None, : self.side // 2 + 1].abs()

    def filtered(self, noise: Tensor, response: Tensor) -> Tensor:
        """Multiply the spectrum of noise (n, [channels,] side, side) on the torus, sum channels, cut the
        image."""
        spectrum = torch.fft.rfft2(noise) * response
        if spectrum.ndim == 4:
            spectrum = spectrum.sum(1)
        return torch.fft.irfft2(spectrum, s=(self.side, self.side))[:, : self.size, : self.size]


def _standardise(field: Tensor) -> Tensor:
    centred = field - field.mean((-2, -1), keepdim=True)
    return centred / centred.square().mean((-2, -1), keepdim=True).sqrt().clamp(min=1e-12)


def _robust(field: Tensor) -> Tensor:
    """Centre by the median and scale by the median deviation: a few huge values must not grey out the
    rest."""
    flat = field.flatten(1)
    centred = flat - flat.median(1, keepdim=True).values
    scale = centred.abs().median(1, keepdim=True).values.clamp(min=1e-12)
    return (centred / scale).view_as(field)


def _cloud(draw: _Draw) -> Tensor:
    """A Brownian field, power |f|^-3, blurred: billows with soft edges on a darker sky."""
    fy, fx = draw.frequencies()
    square = fy.square() + fx.square()
    blur = 0.012
    response = torch.where(
        square > 0, square.clamp(min=1e-12) ** -0.75 * torch.exp(-0.5 * blur**2 * square), 0.0
    )
    field = _standardise(draw.filtered(draw.normal(0, draw.side, draw.side), response))
    return torch.sigmoid(1.6 * field)


def _disk(draw: _Draw) -> Tensor:
    """Heavy-tailed noise smoothed with a disk: each large value becomes a round spot with a sharp rim."""
    radius = max(0.07, 1.6 / draw.size)
    y = torch.fft.fftfreq(draw.side, d=1 / draw.side, dtype=torch.float64) / draw.size
    distance = (y[:, None].square() + y[None, :].square()).sqrt()
    disk = ((radius - distance) * draw.size + 0.5).clamp(0, 1)
    noise = draw.heavy_tailed(0, 0.9, draw.side, draw.side)
    field = _robust(draw.filtered(noise, torch.fft.rfft2(disk)))
    return torch.sigmoid(0.45 * field)


def _flake(draw: _Draw) -> Tensor:
    """Heavy-tailed noise under filters of several directions: thin bright and dark slivers that cross."""
    directions, length, width = 7, 0.16, max(0.03, 1.2 / draw.size)
    y = torch.fft.fftfreq(draw.side, d=1 / draw.side, dtype=torch.float64) / draw.size
    turn = draw.uniform(0, directions, 1, 1)
    angle = math.pi * (torch.arange(directions).view(-1, 1, 1) + turn) / directions
    along = y[:, None] * angle.sin() + y[None, :] * angle.cos()
    across = y[:, None] * angle.cos() - y[None, :] * angle.sin()
    sliver = ((1 - (along / length).abs() - (across / width).abs()) * width * draw.size + 0.5).clamp(0, 1)
    grains = draw.heavy_tailed(1, 1.0, 1, draw.side, draw.side)
    chosen = (draw.uniform(2, 1, draw.side, draw.side) * directions).long()
    noise = grains * (chosen == torch.arange(directions).view(-1, 1, 1))  # each grain has one direction
    field = _robust(draw.filtered(noise, torch.fft.rfft2(sliver)))
    return torch.sigmoid(0.4 * field)


def _perlin(angles: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Gradient noise of unit lattice at (y, x), zero at lattice points; angles (n, rows, columns) of the
    gradients."""
    n, rows, columns = angles.shape
    cell_y, cell_x = y.floor().long(), x.floor().long()
    u, v = y - cell_y, x - cell_x
    flat = angles.flatten(1)

    def corner(dy: int, dx: int) -> Tensor:
        lattice = (cell_y + dy).clamp(0, rows - 1) * columns + (cell_x + dx).clamp(0, columns - 1)
        a = flat.gather(1, lattice.flatten(1)).view(n, *y.shape[1:])
        return a.sin() * (u - dy) + a.cos() * (v - dx)

    def fade(t: Tensor) -> Tensor:
        return t * t * t * (t * (t * 6 - 15) + 10)

    left = torch.lerp(corner(0, 0), corner(1, 0), fade(u))
    right = torch.lerp(corner(0, 1), corner(1, 1), fade(u))
    return torch.lerp(left, right, fade(v))


def _wood(draw: _Draw) -> Tensor:
    """Growth rings: level lines of Perlin noise that is stretched along the grain, with fine fibres."""
    n, size = len(draw.index), draw.size
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    y, x = place.view(1, -1, 1).expand(n, size, size), place.view(1, 1, -1).expand(n, size, size)
    angle = 2 * math.pi * draw.uniform(0, 1, 1)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()

    def noise(stream: int, columns: float, rows: float) -> Tensor:
        """Perlin noise with so many cells along and across the grain; coordinates lie within [-1, sqrt 2]."""
        lattice = draw.uniform(stream, math.ceil(2.5 * rows) + 2, math.ceil(2.5 * columns) + 2)
        return _perlin(2 * math.pi * lattice, (across + 1) * rows, (along + 1) * columns)

    height = noise(1, 1.0, 2.5) + 0.3 * noise(2, 2.0, 5.0)
    phase = 4.0 * height + 2.5 * across
    ring = phase - phase.floor()  # early wood darkens slowly, late wood ends at a sharp line
    edge = torch.where(ring < 0.85, ring / 0.85, (1 - ring) / 0.15)
    fibre = noise(3, 4.0, min(40.0, size / 2.5))
    return 0.82 - 0.55 * edge.square() + 0.16 * fibre


FAMILIES: dict[str, Callable[[_Draw], Tensor]] = {
    "cloud": _cloud,
    "disk": _disk,
    "flake": _flake,
    "wood": _wood,
}


def textures(family: str, index: Tensor, *, seed: int = 0, size: int = 72, split: str = "train") -> Tensor:
    """Draw a batch of textures; each image is the same in whatever company it is drawn.

    Shape: index (n,) integers, result uint8 (n, size, size).
    Raises: ValueError for an unknown family or split, or a size below 16.
    Reference: after the texture benchmark of SPHERE-JEPA (arXiv 2605.26900), which names the recipes only.
    """
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; expected one of {', '.join(FAMILIES)}.")
    if split not in _SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(_SPLITS)}.")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size}; expected at least {MIN_SIZE} pixels.")
    grey = FAMILIES[family](_Draw(family, split, seed, index, size))
    return (grey.clamp(0, 1) * 255).round().to(torch.uint8)


def texture(family: str, index: int, *, seed: int = 0, size: int = 72, split: str = "train") -> Tensor:
    """Draw one texture: uint8 (size, size). As :func:`textures`."""
    return textures(family, torch.tensor([index]), seed=seed, size=size, split=split)[0]
