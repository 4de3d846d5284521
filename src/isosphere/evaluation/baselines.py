"""What an encoder must beat: pixels, whitened principal components, a fixed rotation-invariant descriptor."""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["pca_whitened", "pixels", "rotation_invariant_descriptor", "standardised"]


def pixels(images: Tensor, *, size: int | None = None) -> Tensor:
    """The image itself as a feature: values in [0, 1], area-averaged to `size` if given, flattened.

    Shape: uint8 or float ``(n, c, h, w)`` to float32 ``(n, c * h * w)``.

    Raises: ValueError for another shape.
    """
    x = _values(images)
    if size is not None and x.shape[-2:] != (size, size):
        x = torch.cat([functional.adaptive_avg_pool2d(part, size) for part in x.split(1024)])
    return x.flatten(1)


def pca_whitened(train: Tensor, test: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Both sets on the first principal components of the training set, each scaled to variance 1 there.

    Shape: ``(n, p)``, ``(m, p)`` to float32 ``(n, dim)``, ``(m, dim)``.

    Raises: ValueError if the training set has fewer than `dim` directions of variance.

    Numerics: exact, float64, from the smaller Gram matrix: min(n, p) up to about 5,000 in under a minute.
    """
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train, test: got shapes {tuple(train.shape)}, {tuple(test.shape)}, expected (n, p) and (m, p)"
        )
    mean = train.double().mean(0)
    x = train.double() - mean
    n, p = x.shape
    if p <= n:
        eigenvalues, vectors = torch.linalg.eigh(x.T @ x / n)
    else:
        eigenvalues, rows = torch.linalg.eigh(x @ x.T / n)
        vectors = x.T @ rows / (n * eigenvalues).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    available = int((eigenvalues > 1e-12 * eigenvalues[-1].clamp(min=1e-300)).sum())
    if not 1 <= dim <= available:
        raise ValueError(f"dim: got {dim}, expected 1 to {available}, the directions in which `train` varies")
    basis = vectors[:, -dim:].flip(1) / eigenvalues[-dim:].flip(0).sqrt()
    return (x @ basis).float(), ((test.double() - mean) @ basis).float()


def standardised(train: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Features with mean 0 and variance 1 on the training rows; other sets by the same shift and scale.

    A feature that is constant on the training rows becomes 0. Shape: ``(n, p)`` each, float32 out.
    """
    mean, std = train.double().mean(0), train.double().std(0, correction=0)
    scale = torch.where(std > 1e-9 * train.abs().amax(0).double().clamp(min=1e-30), 1 / std, 0.0)
    return tuple(((x.double() - mean) * scale).float() for x in (train, *others))


def rotation_invariant_descriptor(images: Tensor, *, quantiles: int = 32, rings: int = 32) -> Tensor:
    """Grey quantiles and radial power spectrum inside the largest disk: a fixed texture descriptor.

    The quantiles describe the histogram of the pixels inside the inscribed disk. The spectrum is that of the
    grey image less its mean under a radial Hann window, averaged over rings of equal width in log frequency
    up to the Nyquist frequency, in logarithms. Nothing depends on the direction of an axis beyond the
    sampling of the grid, and nothing is learned; standardise it on training images (:func:`standardised`)
    before taking cosines.

    Shape: uint8 or float ``(n, c, h, w)`` to float32 ``(n, quantiles + rings)``. Colour is averaged away.

    Raises: ValueError for another shape, or images below 8 pixels.
    """
    x = _values(images)
    if min(x.shape[-2:]) < 8:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected at least 8 pixels a side")
    size = min(x.shape[-2:])
    top, left = (x.shape[-2] - size) // 2, (x.shape[-1] - size) // 2
    grey = x[..., top : top + size, left : left + size].mean(1)
    axis = torch.arange(size, device=grey.device) - (size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None, :]) / (size / 2)
    window = torch.where(radius < 1, (math.pi / 2 * radius).cos().square(), 0.0)
    ring, counts = _rings(size, rings, grey.device)
    points = torch.linspace(0, 1, quantiles + 2, device=grey.device)[1:-1]
    parts = []
    for block in grey.split(512):
        inside = block[:, radius < 1]
        mean = (block * window).sum((1, 2), keepdim=True) / window.sum()
        power = torch.fft.fft2((block - mean) * window).abs().square().flatten(1)
        spectrum = power.new_zeros(len(block), rings + 1).index_add_(1, ring, power)[:, :rings] / counts
        histogram = inside.sort(1).values[:, (points * (inside.shape[1] - 1)).round().long()]
        parts.append(torch.cat([histogram, (spectrum + 1e-6).log()], 1))
    return torch.cat(parts)


def _rings(size: int, rings: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ring of every frequency (the last one collects what is outside all), and their sizes, none empty."""
    f = torch.fft.fftfreq(size, device=device) * size
    frequency = torch.hypot(f[:, None], f[None, :]).flatten()
    nyquist = size / 2
    position = (frequency.clamp(min=0.5).log() / math.log(nyquist)).mul(rings).floor().long()
    ring = torch.where((frequency < 1) | (frequency > nyquist), rings, position.clamp(0, rings - 1))
    counts = torch.bincount(ring, minlength=rings + 1)[:rings]
    return ring, counts.clamp(min=1)


def _values(images: Tensor) -> Tensor:
    if images.ndim != 4:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected (n, channels, height, width)")
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
