"""How much of the features' variance is within images: what an encoder must suppress and what it may keep."""

import torch
from torch import Tensor

from isosphere.reductions import full_precision, in_float64

_FOLDS = 5


def within_covariance(views: Tensor) -> Tensor:
    """Unbiased covariance of the views of an image around their mean: ``(V, n, p)``, V at least 2, to ``(p, p)``."""
    apart = (views - views.mean(0)).flatten(0, 1)
    with full_precision(views.device):
        return apart.T @ apart / (views.shape[1] * (len(views) - 1))


def within_share(features: Tensor, *, ridge: float = 0.1) -> Tensor:
    """Shares of variance within images, by generalised eigen-directions of within against total covariance.

    With ``x_iv`` the feature of view v of image i, ``W`` the covariance of views around their image's mean
    (unbiased) and ``T = W + B`` that of single views, the directions solve

    .. math:: (W + \\rho I) u = r (T + \\rho I) u, \\qquad \\rho = ridge \\cdot \\operatorname{tr} T / p .

    They are found on four fifths of the images and their shares ``u^T W u / u^T T u`` measured on the other
    fifth, in turn, pooled over the five; the ascending fit to them in least squares is returned. In the
    sample in which it was found a direction always looks more invariant than it is: with fewer images than
    dimensions some direction has no within-variance at all, whatever the encoder, and the smallest eigenvalue
    is 0. Measured on other images it has the share it truly has. What is lost: a direction too faint to be
    found from so few images is missed, so that r_min is an upper bound, closer the more images there are.

    The smallest entry is r_min of the expansion ratio: near the collapsed point a direction grows if and only
    if its share is below r*; the number of entries below r* is the number of directions that can grow.

    Args:
        features: ``(views, n, p)``, at least 2 views of at least 10 images; the backbone's output.
        ridge: added to both covariances, relative to the mean variance: directions that carry much less
            variance than that count as noise (share 1) when directions are chosen.

    Shape:
        float64 ``(p,)``, ascending.
    Scale:
        0: the same in all views of an image; 1: unrelated between views (estimates scatter around it and may exceed
        it, up to V / (V - 1)). Constant features give 1: they offer nothing. Invariant to shifts and rotations of
        the features, and up to the ridge to linear maps.
    Raises:
        ValueError: another shape or non-finite features.
    Numerics:
        float64 whatever the input; five eigen-decompositions of size ``min(p, views n)``. No gradient.
    """
    if features.ndim != 3 or features.shape[0] < 2 or features.shape[1] < 10:
        raise ValueError(
            f"features: got shape {tuple(features.shape)}, expected (views >= 2, images >= 10, p): one row "
            f"per view of an image"
        )
    x = in_float64(features.detach())
    if not torch.isfinite(x).all():
        raise ValueError("features: got non-finite numbers, expected finite ones")
    views, n, p = x.shape
    if p > views * n:
        # All variance lies in the span of the samples; the other directions are empty and padded below.
        x = _in_own_span(x)
    fold = torch.arange(n, device=x.device) % _FOLDS
    inside, overall = torch.zeros(2, x.shape[2], dtype=x.dtype, device=x.device)
    for f in range(_FOLDS):
        directions = _directions(*_scatter(x[:, fold != f]), ridge)
        within, total = _scatter(x[:, fold == f])
        inside += ((within @ directions) * directions).sum(0)
        overall += ((total @ directions) * directions).sum(0)
    # A direction without variance offers nothing.
    profile = torch.where(overall > 1e-12 * overall.max(), inside / overall, 1.0)
    empty = torch.ones(p - x.shape[2], dtype=x.dtype, device=x.device)
    return torch.cat([_ascending(profile), empty]).sort().values


def _in_own_span(x: Tensor) -> Tensor:
    flat = (x - x.mean((0, 1))).flatten(0, 1)
    eigenvalues, vectors = torch.linalg.eigh(flat @ flat.T)
    return (vectors * eigenvalues.clamp(min=0).sqrt()).unflatten(0, x.shape[:2])


def _scatter(x: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased within-image and total covariance of ``(views, n, p)``."""
    views, n, _ = x.shape
    within, means = within_covariance(x), x.mean(0)
    centred = means - means.mean(0)
    # The covariance of means is B + W / views in expectation.
    return within, centred.T @ centred / (n - 1) + (1 - 1 / views) * within


def _directions(within: Tensor, total: Tensor, ridge: float) -> Tensor:
    """Solutions u as columns, smallest share first, scaled so that ``u^T (T + rho I) u = 1``."""
    rho = ridge * total.diagonal().mean().clamp(min=torch.finfo(total.dtype).tiny)
    rho = rho * torch.eye(len(total), dtype=total.dtype, device=total.device)
    factor = torch.linalg.cholesky(total + rho)
    whitened = torch.linalg.solve_triangular(factor, within + rho, upper=False)
    whitened = torch.linalg.solve_triangular(factor, whitened.T, upper=False)
    rotation = torch.linalg.eigh((whitened + whitened.T) / 2).eigenvectors
    return torch.linalg.solve_triangular(factor.T, rotation, upper=True)


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
