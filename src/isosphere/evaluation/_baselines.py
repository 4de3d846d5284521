"""What an encoder must beat: pixels, whitened principal components, a fixed rotation-invariant descriptor."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.evaluation._labels import judged
from isosphere.evaluation._whitening import moments, projected, require_finite

PRINCIPAL = 256
"""Principal components of pixels, where there are so many."""


def pixels(images: Tensor, *, size: int | None = None) -> Tensor:
    """The image itself as a feature: values in [0, 1], area-averaged to `size` if given, flattened.

    Shape: uint8 or float ``(n, c, h, w)`` to float32 ``(n, c * h * w)``.

    Raises: ValueError for another shape.
    """
    return _resized(_values(images), size).flatten(1)


def small_pixels(images: Tensor, *, size: int) -> Tensor:
    """:func:`pixels` rounded to 256 levels, a quarter of the memory: uint8 ``(n, c, h, w)`` to ``(n, c * size**2)``."""
    return (255 * _resized(_values(images), size)).round().to(torch.uint8).flatten(1)


def _resized(x: Tensor, size: int | None) -> Tensor:
    if size is None or x.shape[-2:] == (size, size):
        return x
    return torch.cat([functional.adaptive_avg_pool2d(part, size) for part in x.split(1024)])


def pca_whitened(train: Tensor, test: Tensor, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """Both sets on the first principal components of the training set, each scaled to variance 1 there.

    Args:
        train, test: ``(n, p)``, ``(m, p)``; bytes (:func:`small_pixels`) count as values in [0, 1].
        dim: components; None: 256, or half as many as long as the training set does not vary in so many directions, and
            a constant column where it does not vary at all.

    Shape: float32 ``(n, dim)``, ``(m, dim)``.

    Raises: ValueError if the training set has fewer than `dim` directions of variance, or rows that are not finite.

    Numerics: exact, float64, from the smaller Gram matrix: min(n, p) up to about 5,000 in under a minute. Beyond it
    the memory is that of the result.
    """
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train, test: got shapes {tuple(train.shape)}, {tuple(test.shape)}, expected (n, p) and (m, p)"
        )
    train = judged(train)
    test = judged(test).to(train.device)
    unit = 255.0 if train.dtype == torch.uint8 else 1.0
    n, p = train.shape
    if p <= n:
        mean, covariance = moments(train, unit=unit)
        eigenvalues, vectors = torch.linalg.eigh(covariance)
    else:
        x = train.double() / unit
        mean = x.mean(0)
        require_finite(mean)
        x = x - mean
        eigenvalues, rows = torch.linalg.eigh(x @ x.T / n)
        vectors = x.T @ rows / (n * eigenvalues).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    available = int((eigenvalues > 1e-12 * eigenvalues[-1].clamp(min=1e-300)).sum())
    if dim is None and available == 0:
        return torch.zeros(n, 1, device=train.device), torch.zeros(len(test), 1, device=train.device)
    if dim is None:
        dim = min(PRINCIPAL, n - 1, p)
        while dim > available:
            dim //= 2
    if not 1 <= dim <= available:
        raise ValueError(f"dim: got {dim}, expected 1 to {available}, the directions in which `train` varies")
    basis = vectors[:, -dim:].flip(1) / eigenvalues[-dim:].flip(0).sqrt()
    return projected(train, mean, basis, unit=unit), projected(test, mean, basis, unit=unit)


def rotation_invariant_descriptor(images: Tensor, *, quantiles: int = 24, rings: int = 16) -> Tensor:
    """Grey quantiles and radial power spectrum inside the inscribed disk: a fixed texture descriptor.

    Everything is weighted by ``cos(pi r / 2)`` of the relative radius r, which a rotation leaves alone and
    which lets what a shift brings in count little. The grey values are first brought to weighted mean 0 and
    variance 1, so that brightness and contrast drop out; then their weighted quantiles describe the
    histogram, and the logarithms of the power spectrum, averaged over rings of equal width in log frequency
    up to the Nyquist frequency, the structure. Nothing is learned. Before taking cosines bring the features
    to a common scale on training images: ``standardised(train, test, shrinkage=0.5)``; on the built-in
    textures this combination was the strongest of those tried.

    Shape: uint8 or float ``(n, c, h, w)`` to float32 ``(n, quantiles + rings)``; rings narrower than the
    frequency grid are empty and constant. Colour is averaged away. The same for ``a * images + b``, a > 0.

    Raises: ValueError for another shape, or images below 8 pixels.
    """
    x = _values(images)
    size = min(x.shape[-2:])
    if size < 8:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected at least 8 pixels a side")
    top, left = (x.shape[-2] - size) // 2, (x.shape[-1] - size) // 2
    grey = x[..., top : top + size, left : left + size].mean(1)
    axis = torch.arange(size, device=grey.device) - (size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None, :]) / (size / 2)
    window = torch.where(radius < 1, (math.pi / 2 * radius).cos(), 0.0)
    window = window / window.sum()
    ring, counts = _rings(size, rings, grey.device)
    return torch.cat([_describe(block, window, quantiles, ring, counts) for block in grey.split(512)])


def _describe(grey: Tensor, window: Tensor, quantiles: int, ring: Tensor, counts: Tensor) -> Tensor:
    centred = grey - (grey * window).sum((1, 2), keepdim=True)
    variance = (centred.square() * window).sum((1, 2), keepdim=True)
    scaled = centred / variance.sqrt().clamp(min=1e-6)
    inside = window > 0
    values, order = scaled[:, inside].sort(1)
    mass = window[inside][order].cumsum(1)
    levels = ((torch.arange(quantiles, device=grey.device) + 0.5) / quantiles).repeat(len(grey), 1)
    places = torch.searchsorted(mass, levels).clamp(max=values.shape[1] - 1)
    power = torch.fft.fft2(scaled * window).abs().square().flatten(1)
    spectrum = power.new_zeros(len(grey), len(counts) + 1).index_add_(1, ring, power)[:, :-1] / counts
    # The floor is far below what noise of one grey level leaves in a ring.
    return torch.cat([values.gather(1, places), (spectrum + 1e-10).log()], 1)


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
