"""Out-of-distribution detection: scores of images, and how well a score separates."""

from collections.abc import Iterator

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.evaluation._intervals import Estimate
from isosphere.evaluation._labels import finite_rows, integer_labels, judged, labelled_rows
from isosphere.reductions import full_precision, nearest_neighbours

SCORES = ("knn", "mahalanobis", "class-cosine", "norm")
"""Names of the scores in :func:`ood_scores`."""

_BLOCK = 8192


def ood(
    train_x: ArrayLike | Tensor,
    inside_x: ArrayLike | Tensor,
    outside: dict[str, ArrayLike | Tensor],
    *,
    train_y: ArrayLike | Tensor | None = None,
    k: int = 50,
    shrinkage: float = 1e-3,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """How well each score tells each OOD set from unseen in-distribution rows: ``[set][score][metric]``.

    Args:
        train_x: ``(n, p)`` in-distribution rows, to which the scores compare.
        inside_x: ``(m, p)`` other in-distribution rows.
        outside: OOD rows by the name of their set.
        train_y, k, shrinkage: as for :func:`ood_scores`.

    Metrics and intervals are those of :func:`detection`. Errors as there and in :func:`ood_scores`.
    """
    options = {"train_y": train_y, "k": k, "shrinkage": shrinkage}
    inside = ood_scores(train_x, inside_x, **options)
    result = {}
    for name, rows in outside.items():
        outside_scores = ood_scores(train_x, rows, **options)
        result[name] = {score: detection(inside[score], outside_scores[score], seed=seed) for score in SCORES}
    return result


def detection(
    inside: ArrayLike | Tensor,
    outside: ArrayLike | Tensor,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """AUROC, both AUPRs and FPR at 95 % TPR of a score, larger for OOD rows; OOD is positive.

    ``auroc``: the probability that a OOD row scores higher than a in-distribution one, ties counting half;
    ``aupr_out``: average precision with OOD rows positive; ``aupr_in``: with in-distribution rows positive and
    the score negated; ``fpr@95``: share of in-distribution rows at or above the highest threshold that finds at least
    95 % of OOD ones. Rows with equal scores are found together. All equal to scikit-learn's
    (``roc_auc_score``, ``average_precision_score``, ``roc_curve``).

    Shape: ``(m,)`` and ``(q,)``. Intervals: bootstrap, both sets resampled by themselves, own generator;
    widened to hold the value where that lies outside (average precision of a few rows grows when they repeat).

    Scale: AUROC 0.5 and AUPRs at the share of positives for a constant score (FPR 1); 1, 1, 1 and 0 at best.
    All nan if either set is empty.

    Raises: ValueError for other shapes or scores that are not finite.
    """
    a, b = (judged(part).cpu().double() for part in (inside, outside))
    if a.ndim != 1 or b.ndim != 1 or not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError(
            f"inside, outside: got shapes {tuple(a.shape)} and {tuple(b.shape)}, expected (m,) and (q,), finite"
        )
    names = ("auroc", "aupr_out", "aupr_in", "fpr@95")
    if len(a) == 0 or len(b) == 0:
        return dict.fromkeys(names, Estimate(*[float("nan")] * 3))
    distinct, place = torch.cat([a, b]).unique(return_inverse=True)
    # Descending: place 0 is the largest score.
    place = len(distinct) - 1 - place
    here, there = place[: len(a)], place[len(a) :]
    values = _metrics(_counts(here[None], len(distinct)), _counts(there[None], len(distinct)))[0]
    generator = torch.Generator().manual_seed(seed)
    draws, step = [], max(1, 2_000_000 // (len(a) + len(b)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        resampled = (
            _counts(part[torch.randint(len(part), (size, len(part)), generator=generator)], len(distinct))
            for part in (here, there)
        )
        draws.append(_metrics(*resampled))
    tail = (1 - level) / 2
    bounds = torch.cat(draws).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return {
        name: Estimate(float(value), min(float(value), float(low)), max(float(value), float(high)))
        for name, value, low, high in zip(names, values, *bounds, strict=True)
    }


def ood_scores(
    train_x: ArrayLike | Tensor,
    x: ArrayLike | Tensor,
    *,
    train_y: ArrayLike | Tensor | None = None,
    k: int = 50,
    shrinkage: float = 1e-3,
) -> dict[str, Tensor]:
    """All scores of :data:`SCORES` for the rows of x: float64 ``(m,)`` each, larger where further out.

    Without labels (`train_y` None, or -1 throughout) the training set is one class. Errors as of
    :func:`knn_distance`, :func:`mahalanobis`, :func:`class_cosine`, :func:`feature_norm`.
    """
    return {
        "knn": knn_distance(train_x, x, k=k),
        "mahalanobis": mahalanobis(train_x, x, train_y=train_y, shrinkage=shrinkage),
        "class-cosine": class_cosine(train_x, x, train_y=train_y),
        "norm": feature_norm(x),
    }


def knn_distance(train_x: ArrayLike | Tensor, x: ArrayLike | Tensor, *, k: int = 50) -> Tensor:
    """One minus the cosine to the k-th nearest training row: float64 ``(m,)``, 0 (same) to 2.

    Half the squared distance of the normalised rows. A k beyond the training rows means the last of them.

    Raises: ValueError for shapes that disagree, non-finite rows, an empty training set, or k < 1.

    Reference: Y. Sun et al., Out-of-distribution detection with deep nearest neighbors (2022).
    """
    train, rows = _both(train_x, x)
    if k < 1:
        raise ValueError(f"k: got {k}, expected 1 or more, such as 50")
    if len(rows) == 0:
        return torch.zeros(0, dtype=torch.float64)
    similarities, _ = nearest_neighbours(rows, train, min(k, len(train)), cosine=True)
    return 1 - similarities[:, -1].double().cpu()


def mahalanobis(
    train_x: ArrayLike | Tensor,
    x: ArrayLike | Tensor,
    *,
    train_y: ArrayLike | Tensor | None = None,
    shrinkage: float = 1e-3,
) -> Tensor:
    """Smallest squared Mahalanobis distance to a class mean: float64 ``(m,)``.

    .. math:: \\min_c (x - \\mu_c)^T \\Sigma^{-1} (x - \\mu_c), \\qquad
              \\Sigma = (1 - s) S + s \\frac{\\operatorname{tr} S}{p} I

    with S the covariance of training rows around their class means (divided by n) and s the shrinkage, which
    keeps directions without variance from deciding everything. Rows labelled -1 are left out, unless all are:
    then, or without labels, there is one class. Where all training rows are at their means, Sigma = I.

    Raises: ValueError for shapes that disagree, non-finite rows, no rows, or a shrinkage outside (0, 1].

    Reference: K. Lee et al., A simple unified framework for detecting out-of-distribution samples (2018).
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage: got {shrinkage}, expected above 0 and at most 1, such as 1e-3")
    train, rows = _both(train_x, x)
    with full_precision(train.device):
        means, covariance = _class_moments(train, train_y)
        scale = covariance.diagonal().mean()
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        sigma = (1 - shrinkage) * covariance + shrinkage * scale * identity if scale > 0 else identity
        factor = torch.linalg.cholesky(sigma)
        # In whitened coordinates, around the overall mean, it is the distance itself.
        centre = means.mean(0)
        whiten = torch.linalg.solve_triangular(factor, identity, upper=False).T
        targets = (means - centre) @ whiten
        found = [_nearest_square((block.double() - centre) @ whiten, targets) for block in rows.split(_BLOCK)]
    return torch.cat(found).cpu()


def class_cosine(
    train_x: ArrayLike | Tensor, x: ArrayLike | Tensor, *, train_y: ArrayLike | Tensor | None = None
) -> Tensor:
    """One minus the cosine to the nearest class mean of the normalised training rows: float64 ``(m,)``, 0 to 2.

    Labels as for :func:`mahalanobis`. A mean or row of zero norm has cosine 0. Cosines are rounded to float32: the last
    digits of a product depend on the place of a row, and equal rows have equal scores.

    Raises: ValueError for shapes that disagree, non-finite rows, or no rows.
    """
    train, rows = _both(train_x, x)
    means, _ = _class_moments(train, train_y, unit=True)
    directions = functional.normalize(means, dim=1)
    found = [
        (functional.normalize(block.double(), dim=1) @ directions.T).amax(1) for block in rows.split(_BLOCK)
    ]
    return 1 - torch.cat(found).float().double().cpu()


def feature_norm(x: ArrayLike | Tensor) -> Tensor:
    """Minus the norm of each row: float64 ``(m,)``. In-distribution images tend to have the longer features."""
    return -finite_rows(x, "x").double().norm(dim=1).cpu()


def _both(train_x: ArrayLike | Tensor, x: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    train, rows = finite_rows(train_x, "train_x"), finite_rows(x, "x")
    if len(train) == 0 or train.shape[1] != rows.shape[1]:
        raise ValueError(
            f"train_x, x: got shapes {tuple(train.shape)} and {tuple(rows.shape)}, expected (n, p), n >= 1, and "
            "(m, p)"
        )
    return train, rows.to(train.device)


def _class_moments(
    train: Tensor, train_y: ArrayLike | Tensor | None, *, unit: bool = False
) -> tuple[Tensor, Tensor]:
    """Means of the classes ``(c, p)`` and the covariance around them ``(p, p)``, float64; of unit rows if asked for.

    Block by block: the training rows are not copied.
    """
    labels = (
        torch.zeros(len(train), dtype=torch.long) if train_y is None else integer_labels(train_y, "train_y")
    )
    if len(labels) and int(labels.max()) < 0:
        labels = torch.zeros_like(labels)
    rows, labels = labelled_rows(train, labels, ("train_x", "train_y"))
    _, column, counts = labels.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), rows.shape[1], dtype=torch.float64, device=rows.device)

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for part, own in zip(rows.split(_BLOCK), column.split(_BLOCK), strict=True):
            yield functional.normalize(part.double(), dim=1) if unit else part.double(), own

    for part, own in blocks():
        means.index_add_(0, own, part)
    means /= counts[:, None]
    covariance = means.new_zeros(rows.shape[1], rows.shape[1])
    for part, own in blocks():
        centred = part - means[own]
        covariance.addmm_(centred.T, centred)
    return means, covariance / len(rows)


def _nearest_square(rows: Tensor, targets: Tensor) -> Tensor:
    squares = rows.square().sum(1)[:, None] + targets.square().sum(1) - 2 * rows @ targets.T
    return squares.amin(1).clamp(min=0)


def _counts(places: Tensor, distinct: int) -> Tensor:
    """How often each distinct score occurs, per row of places: float64 ``(r, distinct)``."""
    counts = torch.zeros(len(places), distinct, dtype=torch.float64)
    return counts.scatter_add_(1, places, torch.ones((), dtype=torch.float64).expand(places.shape))


def _metrics(inside: Tensor, outside: Tensor) -> Tensor:
    """The four metrics from counts per distinct score, descending: ``(r, 4)``."""
    m, q = inside.sum(1, keepdim=True), outside.sum(1, keepdim=True)
    false, true = inside.cumsum(1), outside.cumsum(1)
    below = m - false
    auroc = (outside * (below + inside / 2)).sum(1) / (m * q).squeeze(1)
    # Rows that a resample lacks have count zero: their precision does not count, nor may it be 0 / 0.
    out = (outside * true / (true + false).clamp(min=1)).sum(1) / q.squeeze(1)
    kept, stray = m - false + inside, q - true + outside
    into = (inside * kept / (kept + stray).clamp(min=1)).sum(1) / m.squeeze(1)
    # Counts are whole numbers: the first place at which they reach 95 %, as scikit-learn's curve has it.
    first = (true / q >= 0.95).double().argmax(1, keepdim=True)
    rate = (false.gather(1, first) / m).squeeze(1)
    return torch.stack([auroc, out, into, rate], 1)
