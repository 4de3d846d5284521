"""Every figure with its interval: Wilson's for proportions, the bootstrap over queries for other means."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and the bounds of its interval: 95 % unless its maker says otherwise."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """``{"value", "low", "high"}``: an entry of ``evaluation.json``."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def excludes(self, number: float) -> bool:
        """Whether the number lies outside the interval (for a difference, ask about 0)."""
        return number < self.low or number > self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def wilson(successes: float, n: int, *, level: float = 0.95) -> Estimate:
    """Proportion ``successes / n`` with Wilson's score interval.

    .. math:: \\frac{\\hat p + z^2/2n \\pm z \\sqrt{\\hat p (1 - \\hat p)/n + z^2/4n^2}}{1 + z^2/n}

    Scale: 0 to 1. The interval is never empty at 0 or 1, where a symmetric one would be. `successes` may be
    fractional (a tie counts as its probability): a mean of values in [0, 1] varies at most as much as a
    proportion of the same mean, so that the interval is then on the safe side. With n = 0 nothing is known:
    (nan, 0, 1).

    Raises: ValueError if `successes` is outside 0..n or `level` outside (0, 1).

    Reference: E. B. Wilson, JASA 22 (1927) 209-212.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, expected a probability strictly between 0 and 1, such as 0.95")
    if n < 0 or not 0 <= successes <= n * (1 + 1e-12):
        raise ValueError(f"successes: got {successes} of {n}, expected a number from 0 to n")
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = min(successes / n, 1.0)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    # At 0 and n the bound is the proportion itself; rounding must not put the value outside its own interval.
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def bootstrap(
    values: ArrayLike | torch.Tensor,
    statistic: Callable[[np.ndarray], float] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    unit_interval: bool = False,
    groups: ArrayLike | torch.Tensor | None = None,
) -> Estimate:
    """A statistic of independent rows with the percentile interval of the bootstrap over rows.

    Args:
        values: ``(n,)`` or ``(n, ...)``; rows are resampled with replacement.
        groups: ``(n,)`` numbers: rows of one group, such as pictures of one product, are not independent, and whole
            groups are resampled (the cluster bootstrap); for the mean of ``(n,)`` values alone.
        statistic: from an array of n rows to a number; None is the mean of ``(n,)`` values.
        seed: of an own generator; the global ones are neither read nor advanced.
        unit_interval: say that the values lie in [0, 1]. Where all are equal the bootstrap would claim
            certainty; Wilson's interval for the same mean then takes its place.

    Scale: that of the statistic. No rows: (nan, nan, nan), or (nan, 0, 1) with `unit_interval`.

    Raises: ValueError if values are not finite, or outside [0, 1] with `unit_interval`.

    Reference: B. Efron, Annals of Statistics 7 (1979) 1-26.
    """
    rows = _array(values)
    if rows.ndim == 0:
        raise ValueError("values: got a single number, expected an array with one row per query")
    if not np.isfinite(rows).all():
        raise ValueError("values: got non-finite numbers, expected finite ones; drop these rows first")
    if unit_interval and rows.size and not (rows.min() >= -1e-12 and rows.max() <= 1 + 1e-12):
        raise ValueError(f"values: got {rows.min()} to {rows.max()}, expected 0 to 1 with unit_interval=True")
    n = len(rows)
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0) if unit_interval else Estimate(*[float("nan")] * 3)
    if statistic is None and rows.ndim != 1:
        raise ValueError(
            f"values: got shape {rows.shape}, expected (n,) for the mean; pass statistic= for others"
        )
    if groups is not None:
        rows, statistic = _by_group(rows, groups, statistic), _ratio
        if unit_interval and np.ptp(rows[:, 0] / rows[:, 1]) < 1e-12:
            return wilson(float(np.clip(_ratio(rows), 0, 1)) * len(rows), len(rows), level=level)
        n = len(rows)
    if unit_interval and statistic is None and np.ptp(rows) < 1e-12:
        return wilson(float(np.clip(rows.mean(), 0, 1)) * n, n, level=level)
    generator = np.random.Generator(np.random.PCG64(seed))
    value = float(rows.mean()) if statistic is None else float(statistic(rows))
    draws = np.empty(resamples)
    for r in range(resamples):
        chosen = rows[generator.integers(0, n, n)]
        draws[r] = chosen.mean() if statistic is None else statistic(chosen)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def paired_difference(
    first: ArrayLike | torch.Tensor,
    second: ArrayLike | torch.Tensor,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    groups: ArrayLike | torch.Tensor | None = None,
) -> Estimate:
    """Mean of ``first - second`` over the same queries, with the bootstrap interval of the differences.

    Two encoders judged on the same queries share what makes a query hard, so that the interval of the
    difference is narrower than two separate intervals suggest. Feed it outcomes per query: ``correct`` of two
    k-NN predictions, or ``InstanceRanks.recall(1)`` and ``.reciprocal_rank()`` of two encoders. `groups` as of
    :func:`bootstrap`.

    Scale: first minus second; the interval excluding 0 is the evidence that they differ. Where all differences are
    equal the bootstrap would claim certainty: the interval is then that of so many queries of which as large a share
    as Wilson's bound allows differs by as much as outcomes can.

    Raises: ValueError if the two differ in shape or are not finite.
    """
    a, b = _array(first), _array(second)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"first, second: got shapes {a.shape} and {b.shape}, expected one (n,) for both, a value per "
            f"query"
        )
    difference = a - b
    if len(a) and np.isfinite(difference).all() and np.ptp(difference) < 1e-12:
        value, most = float(difference.mean()), max(1.0, float(np.abs([a, b]).max()))
        independent = len(a) if groups is None else len(np.unique(_array(groups)))
        unseen = wilson(0, independent, level=level).high
        return Estimate(
            value,
            max(-most, value - unseen * (most + value)),
            min(most, value + unseen * (most - value)),
        )
    return bootstrap(difference, seed=seed, resamples=resamples, level=level, groups=groups)


def _by_group(
    values: np.ndarray, groups: ArrayLike | torch.Tensor, statistic: Callable[[np.ndarray], float] | None
) -> np.ndarray:
    """Sum and number of the values of each group, ``(g, 2)``. Raises: ValueError."""
    of = _array(groups)
    if statistic is not None or values.ndim != 1 or of.shape != values.shape:
        raise ValueError(
            f"groups: got shape {of.shape} for values of shape {values.shape}"
            f"{'' if statistic is None else ' and a statistic'}, expected (n,) of both, for their mean"
        )
    _, place = np.unique(of, return_inverse=True)
    return np.stack([np.bincount(place, values), np.bincount(place)], axis=1)


def _ratio(rows: np.ndarray) -> float:
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def _array(values: ArrayLike | torch.Tensor) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
