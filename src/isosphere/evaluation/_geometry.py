"""How embeddings lie on the sphere: spread, rank, distance from uniform in units of chance. No labels."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.evaluation._intervals import Estimate, bootstrap
from isosphere.evaluation._jackknife import GROUPS, jackknife, symmetric
from isosphere.evaluation._labels import judged
from isosphere.reductions import inner_product_blocks, nearest_neighbours
from isosphere.statistics import (
    covariance_spectrum,
    effective_rank,
    k_occurrences,
    lidar,
    local_intrinsic_dimensions,
    mean_cosine,
    neighbour_directions,
    rankme,
)

LOCAL_NEIGHBOURS = 20
"""Of each row, by which the dimension around it is told; all others where there are fewer."""


def hub_neighbours(n: int) -> int:
    """Neighbours of each of n rows among which hubs are counted: 10, less where that is a quarter of the rows."""
    return min(10, n // 4)


class _Calibrated(Protocol):
    """The part of a discrepancy that is used here."""

    def __call__(self, z: Tensor) -> Tensor: ...
    def zscore(self, z: Tensor) -> Tensor: ...
    def null(self, n: int) -> Any: ...


def geometry(
    z: ArrayLike | Tensor,
    *,
    views: ArrayLike | Tensor | None = None,
    discrepancies: Mapping[str, _Calibrated] | None = None,
    t: float = 2.0,
) -> dict[str, Estimate]:
    """Spread and rank of a sample of embeddings, each with a 95 % interval.

    Args:
        z: ``(n, d)``, at least 20 rows; rows are normalised first, so that everything is about directions.
        views: ``(V, n, d)`` embeddings of V >= 2 views of each image, for `alignment` and `lidar`; None leaves
            them out.
        discrepancies: by name, such as ``{"mmd-heat": MMD(HeatKernel(d))}``; on one rank of several built
            with ``group=False``. One whose ``space`` is "euclidean" is given the rows as they came.
        t: of the uniformity.

    Returns:
        ``uniformity``: log mean pairwise Gaussian potential (0 at collapse, towards -2t when uniform);
        ``mean_cosine``: of different rows (1 at collapse, 0 when uniform); ``effective_rank``, ``rankme``:
        exponential entropy of singular values, centred and not; ``top_eigenvalue_share``: largest covariance
        eigenvalue over their sum (1/d when uniform; nan at collapse); ``alignment``: mean squared distance of
        two views (with `views`); ``lidar``: directions that tell images apart (with `views`);
        ``local_dimension``: around each row, from its 20 nearest, or all others (harmonic mean); ``off_centre``: mean
        cosine of the directions to two of these (0: the row is in their middle); ``anisotropy``: mean squared such
        cosine times d - 1 (1: they lie alike in every direction); ``hub_skewness``: skewness of how often a row is
        among the 10 nearest of another (.2 for points spread alike, more with hubs); ``antihubs``: share of rows that
        never are;
        ``zscore/NAME``: discrepancy minus its mean under the uniform law, in standard deviations under it.

    Intervals treat the rows as independent. Pair means: the influence of each row (Hajek projection) and the
    scatter of its pairs. Ranks, LiDAR, shares, neighbourhoods and z-scores: a jackknife over ten groups of rows, for
    z-scores never narrower than the one standard deviation that chance alone gives, of hubs up to 2.5 times too wide.
    Alignment: the bootstrap over images. Local dimension: the scatter over rows, which with few rows is up to a third
    too narrow, since neighbourhoods overlap.
    They say what another sample of the same size would give: ranks and z-scores depend on n.

    Raises: ValueError for another shape or non-finite rows.
    """
    raw = judged(z)
    if raw.ndim != 2 or len(raw) < 2 * GROUPS:
        raise ValueError(f"z: got shape {tuple(raw.shape)}, expected (n, d) with at least {2 * GROUPS} rows")
    if not torch.isfinite(raw).all():
        raise ValueError("z: got non-finite numbers, expected finite ones; drop or repair these rows first")
    raw = raw.float()
    x = functional.normalize(raw, dim=1)
    result = {"uniformity": _uniformity(x, t), "mean_cosine": _mean_cosine(x)}
    result |= _spectral(x)
    result["local_dimension"] = _local_dimension(x)
    result |= _neighbourhoods(x)
    if views is not None:
        result["alignment"] = _alignment(judged(views))
        result["lidar"] = _lidar(judged(views))
    for name, discrepancy in (discrepancies or {}).items():
        sample = raw if getattr(discrepancy, "space", "sphere") == "euclidean" else x
        result[f"zscore/{name}"] = _zscore(discrepancy, sample)
    return result


def _uniformity(x: Tensor, t: float) -> Estimate:
    n = len(x)
    row_means = torch.empty(n, dtype=torch.float64, device=x.device)
    square = torch.zeros((), dtype=torch.float64, device=x.device)
    for here, c in inner_product_blocks(x, x):
        potential = (2 * t * (c - 1)).exp_()
        own = torch.arange(here.start, here.stop, device=x.device)
        potential[own - here.start, own] = 0
        row_means[here] = potential.sum(1).double() / (n - 1)
        square += potential.square_().sum(dtype=torch.float64)
    mean = row_means.mean()
    pair_variance = (square / (n * (n - 1)) - mean**2).clamp(min=0)
    error = _pair_error(row_means, float(pair_variance)) / float(mean)
    return symmetric(float(mean.log()), error)


def _mean_cosine(x: Tensor) -> Estimate:
    n, y = len(x), x.double()
    row_means = (y @ y.sum(0) - y.square().sum(1)) / (n - 1)
    gram = y.T @ y if y.shape[1] <= n else y @ y.T
    square = (gram.square().sum() - y.square().sum(1).square().sum()) / (n * (n - 1))
    value = float(mean_cosine(x))
    return symmetric(value, _pair_error(row_means, max(float(square) - value**2, 0.0)))


def _pair_error(row_means: Tensor, pair_variance: float) -> float:
    """Standard error of a mean over pairs: the root of 4 zeta_1 / n + 2 (zeta_2 - 2 zeta_1) / n^2."""
    n = len(row_means)
    # The variance of a row's mean is that of its conditional expectation plus what its own pairs scatter.
    first = max(float(row_means.var()) - pair_variance / n, 0.0)
    return (4 * first / n + 2 * max(pair_variance - 2 * first, 0.0) / n**2) ** 0.5


def _spectral(x: Tensor) -> dict[str, Estimate]:
    def figures(sample: Tensor) -> Tensor:
        spectrum = covariance_spectrum(sample)
        return torch.stack([effective_rank(sample), rankme(sample), spectrum[0] / spectrum.sum()])

    values, errors = figures(x), jackknife(x, figures)
    estimates = [symmetric(v, e) for v, e in zip(values.tolist(), errors.tolist(), strict=True)]
    if values[0] == 0:  # constant: what is left of the spectrum is rounding
        estimates[0], estimates[2] = Estimate(0.0, 0.0, 0.0), Estimate(*[float("nan")] * 3)
    return dict(zip(("effective_rank", "rankme", "top_eigenvalue_share"), estimates, strict=True))


def _alignment(views: Tensor) -> Estimate:
    if views.ndim != 3 or views.shape[0] < 2:
        raise ValueError(
            f"views: got shape {tuple(views.shape)}, expected (views, n, d) with at least two views"
        )
    x = functional.normalize(views.double(), dim=-1)
    return bootstrap(2 * x.var(dim=0, correction=1).sum(-1))


def _lidar(views: Tensor) -> Estimate:
    x = functional.normalize(views.double(), dim=-1)
    if x.shape[1] < 2 * GROUPS:
        return Estimate(*[float("nan")] * 3)
    error = jackknife(x.transpose(0, 1), lambda images: lidar(images.transpose(0, 1)))
    return symmetric(float(lidar(x)), float(error), 0.0)


def _local_dimension(x: Tensor) -> Estimate:
    inverse = 1 / local_intrinsic_dimensions(x, min(LOCAL_NEIGHBOURS, len(x) - 1))
    inverse = inverse[~inverse.isnan()]
    if len(inverse) < 2 or not inverse.mean() > 0:
        return Estimate(*[float("nan")] * 3)
    made = symmetric(float(inverse.mean()), float(inverse.std()) / len(inverse) ** 0.5)
    return Estimate(1 / made.value, 1 / made.high, 1 / made.low if made.low > 0 else float("inf"))


def _neighbourhoods(x: Tensor) -> dict[str, Estimate]:
    """Hubs among rows, and how neighbours lie around a row: around at most 2,000 of them."""
    n, d = x.shape
    every = torch.arange(n, device=x.device)
    # Twice as many as are asked for: without a tenth of the rows there still are enough, and in the same order.
    order = nearest_neighbours(x, x, min(2 * LOCAL_NEIGHBOURS, n - 1), exclude=every)[1]

    def figures(rows: Tensor) -> Tensor:
        place = torch.full((n,), -1, device=x.device)
        place[rows] = torch.arange(len(rows), device=x.device)
        theirs = order[rows]
        first = (
            (place[theirs] < 0).int().argsort(dim=1, stable=True)[:, : min(LOCAL_NEIGHBOURS, len(rows) - 1)]
        )
        near = theirs.gather(1, first)
        counts = k_occurrences(place[near[:, : hub_neighbours(len(rows))]])
        off = counts - counts.mean()
        spread = off.square().mean().sqrt()
        skewness = (off**3).mean() / spread**3 if spread > 0 else spread
        some = torch.arange(0, len(rows), max(1, len(rows) // 2000), device=x.device)
        found = [neighbour_directions(x[rows[s]], x[near[s]]) for s in some.split(256)]
        cosine, square = (torch.cat(each).double().nanmean() for each in zip(*found, strict=True))
        return torch.stack([skewness, (counts == 0).double().mean(), cosine, (d - 1) * square])

    names = ("hub_skewness", "antihubs", "off_centre", "anisotropy")
    values, errors = figures(every).tolist(), jackknife(every, figures).tolist()
    made = dict(zip(names, map(symmetric, values, errors), strict=True))
    return made | {"antihubs": symmetric(values[1], errors[1], 0.0, 1.0)}


def _zscore(discrepancy: _Calibrated, x: Tensor) -> Estimate:
    with torch.no_grad():
        value = float(discrepancy.zscore(x))
        error = float(jackknife(x, discrepancy)) / float(discrepancy.null(len(x)).std)
    return symmetric(value, max(error, 1.0))
