"""How much of the features' variance is within images: what an encoder must suppress and what it may keep."""

import torch
from torch import Tensor

__all__ = ["within_share"]

_FOLDS = 5


def within_share(features: Tensor, *, ridge: float = 1e-2) -> Tensor:
    """Shares of variance within images, by generalised eigen-directions of within against total covariance.

    With ``x_iv`` the feature of view v of image i, ``W`` the covariance of views around their image's mean
    (unbiased) and ``T = W + B`` that of single views, the directions solve

    .. math:: (W + \\rho I) u = r (T + \\rho I) u, \\qquad \\rho = ridge \\cdot \\operatorname{tr} T / p .

    They are found on four fifths of the images and their shares ``u^T W u / u^T T u`` measured on the other
    fifth, in turn; the five profiles are averaged, and the least-squares ascending fit to them is returned.
    In the sample in which it was found a direction always looks more invariant than it is: with fewer images
    than dimensions some direction has no within-variance at all, whatever the encoder, and the smallest
    eigenvalue is 0. Measured on other images it has the share it truly has. What is lost: a direction too
    faint to be found from so few images is missed, so that r_min is an upper bound, closer the more images
    there are.

    The smallest entry is r_min of the expansion ratio: near the collapsed point a direction grows if and only
    if its share is below r*; the number of entries below r* is the number of directions that can grow.

    Args:
        features: ``(views, n, p)``, at least 2 views of at least 10 images; the backbone's output.
        ridge: added to both covariances, relative to the mean variance: directions that carry much less
            variance than that count as noise (share 1) when directions are chosen.

    Shape: float64 ``(p,)``, ascending.

    Scale: 0: the same in all views of an image; 1: unrelated between views (estimates scatter around it and
    may exceed it, up to V / (V - 1)). Constant features give 1: they offer nothing. Invariant to shifts and
    rotations of the features, and up to the ridge to linear maps.

    Raises: ValueError for another shape or non-finite features.

    Numerics: float64 whatever the input; five eigen-decompositions of size ``min(p, views n)``. No gradient.
    """
    if features.ndim != 3 or features.shape[0] < 2 or features.shape[1] < 10:
        raise ValueError(
            f"features: got shape {tuple(features.shape)}, expected (views >= 2, images >= 10, p): one row "
            f"per view of an image"
        )
    x = features.detach().double()
    if not torch.isfinite(x).all():
        raise ValueError("features: got non-finite numbers, expected finite ones")
    views, n, p = x.shape
    if p > views * n:
        # All variance lies in the span of the samples; the other directions are empty and padded below.
        x = _in_own_span(x)
    fold = torch.arange(n, device=x.device) % _FOLDS
    profile = torch.stack(
        [_profile(_scatter(x[:, fold != f]), _scatter(x[:, fold == f]), ridge) for f in range(_FOLDS)]
    ).mean(0)
    empty = torch.ones(p - x.shape[2], dtype=x.dtype, device=x.device)
    return torch.cat([_ascending(profile), empty]).sort().values


def _in_own_span(x: Tensor) -> Tensor:
    flat = (x - x.mean((0, 1))).flatten(0, 1)
    eigenvalues, vectors = torch.linalg.eigh(flat @ flat.T)
    return (vectors * eigenvalues.clamp(min=0).sqrt()).unflatten(0, x.shape[:2])


def _scatter(x: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased within-image and total covariance of ``(views, n, p)``."""
    views, n, p = x.shape
    means = x.mean(0)
    deviations = (x - means).reshape(-1, p)
    within = deviations.T @ deviations / (n * (views - 1))
    centred = means - means.mean(0)
    # The covariance of means is B + W / views in expectation.
    return within, centred.T @ centred / (n - 1) + (1 - 1 / views) * within


def _profile(fit: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], ridge: float) -> Tensor:
    within, total = fit
    p = len(total)
    scale = total.diagonal().mean()
    if scale <= 0:
        return torch.ones(p, dtype=total.dtype, device=total.device)
    eye = torch.eye(p, dtype=total.dtype, device=total.device)
    factor = torch.linalg.cholesky(total + ridge * scale * eye)
    whitened = torch.linalg.solve_triangular(factor, within + ridge * scale * eye, upper=False)
    whitened = torch.linalg.solve_triangular(factor, whitened.T, upper=False)
    rotation = torch.linalg.eigh((whitened + whitened.T) / 2).eigenvectors
    directions = torch.linalg.solve_triangular(factor.T, rotation, upper=True)
    inside = ((held_out[0] @ directions) * directions).sum(0)
    overall = ((held_out[1] @ directions) * directions).sum(0)
    # A direction without any variance offers nothing.
    empty = overall <= 1e-12 * scale * directions.square().sum(0)
    return torch.where(empty, torch.ones_like(inside), inside / overall.masked_fill(empty, 1.0))


def _ascending(values: Tensor) -> Tensor:
    """The ascending sequence nearest in least squares (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    fitted = [total / count for total, count in pools for _ in range(count)]
    return torch.tensor(fitted, dtype=torch.float64, device=values.device)
