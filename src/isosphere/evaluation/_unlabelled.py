"""What can be said of an encoder without labels, and whether runs in that order are in the order of accuracy."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._geometry import geometry
from isosphere.evaluation._intervals import Estimate
from isosphere.evaluation._retrieval import instance_retrieval

HIGHER_IS_BETTER = {
    "recall@1": True,
    "rankme": True,
    "lidar": True,
    "uniformity": False,
    "alignment": False,
}
"""The measures of :func:`unlabelled`, and whether their authors call more of it better."""

_ALL_ORDERS = 8  # runs up to which every order is counted: 40,320
_DRAWN = 20_000


@dataclass(frozen=True, slots=True)
class Correlation:
    """A rank correlation in [-1, 1] (nan if one side is constant), of how many pairs, its p-value and interval.

    `pvalue`: the share of orders of one side whose correlation is at least as far from 0 (two-sided). `low`,
    `high`: 95 %, by :func:`rank_interval`. Both take the pairs as independent, which checkpoints of one run
    are not.
    """

    value: float
    count: int
    pvalue: float
    low: float = math.nan
    high: float = math.nan


def unlabelled(z: ArrayLike | Tensor, views: ArrayLike | Tensor, *, batch: int = 100) -> dict[str, Estimate]:
    """Five figures that need no labels, each with a 95 % interval.

    Args:
        z: ``(n, d)`` features of n images, at least 20.
        views: ``(2, n, d)`` features of two random views of each.
        batch: images among which the other view is sought; at most n.

    Returns: ``recall@1`` (of the other view among `batch` images, 0 to 1), ``rankme`` and ``uniformity`` of z,
    ``lidar`` and ``alignment`` of the views; as :func:`geometry` and :func:`instance_retrieval` say.

    They compare runs on the same images and views. Ranks and LiDAR grow with n and are at most d: compare at
    one n, and beware where dimensions differ.

    Raises: ValueError for other shapes or non-finite rows.

    Reference: Q. Garrido et al., RankMe (arXiv 2210.02885), eq. 1; V. Thilak et al., LiDAR (2312.04000), section
    4; T. Wang and P. Isola (2005.10242), eq. 1 and 2.
    """
    pair = torch.as_tensor(views)
    if pair.ndim != 3 or len(pair) != 2 or pair.shape[1:] != torch.as_tensor(z).shape:
        raise ValueError(
            f"z, views: got shapes {tuple(torch.as_tensor(z).shape)} and {tuple(pair.shape)}, expected (n, d) "
            "and (2, n, d)"
        )
    found = geometry(z, views=pair)
    found |= instance_retrieval(pair[0], pair[1], batch=min(batch, pair.shape[1]), k=(1,))
    return {name: found[name] for name in HIGHER_IS_BETTER}


def ranks(values: Sequence[float], *, higher: bool = True) -> list[float]:
    """Places 1, 2, ... of the values, the best first; equals share the mean of their places, nan has none (nan)."""
    x = np.asarray(values, float) * (-1.0 if higher else 1.0)
    known = x[~np.isnan(x)]
    return [
        float("nan") if math.isnan(v) else float((known < v).sum() + ((known == v).sum() + 1) / 2) for v in x
    ]


def spearman(a: Sequence[float], b: Sequence[float]) -> Correlation:
    """Spearman's rank correlation: Pearson's of the places, equals sharing the mean of theirs.

    Pairs in which either is nan are left out. The p-value counts all orders up to 8 pairs, beyond them 20,000
    drawn ones (with their own among them, so that it is never 0). nan for fewer than 2 pairs.

    Raises: ValueError if `a` and `b` differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"a, b: got {len(a)} and {len(b)} values, expected as many of each")
    pairs = np.array([(x, y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) or math.isnan(y))])
    n = len(pairs)
    if n < 2:
        return Correlation(math.nan, n, math.nan)
    x, y = (_standard(ranks(list(column))) for column in pairs.T)
    if not (x.any() and y.any()):
        return Correlation(math.nan, n, math.nan)
    value = float(x @ y)
    if n <= _ALL_ORDERS:
        orders = np.array(list(itertools.permutations(range(n))))
        others = y[orders] @ x
        share = float(np.mean(np.abs(others) >= abs(value) - 1e-12))
    else:
        drawn = np.random.default_rng(0).permuted(np.tile(y, (_DRAWN, 1)), axis=1) @ x
        share = (1 + int((np.abs(drawn) >= abs(value) - 1e-12).sum())) / (1 + _DRAWN)
    value = max(-1.0, min(1.0, value))
    return Correlation(value, n, share, *rank_interval(value, n))


def rank_interval(value: float, count: int) -> tuple[float, float]:
    r"""95 % interval of Spearman's correlation :math:`\rho` of n pairs.

    :math:`\tanh\bigl(\operatorname{artanh}\rho \pm 1.96\sqrt{(1 + \rho^2/2)/(n - 3)}\bigr)`; of a perfect order, whose
    interval by this formula would have no length, that of an order in which one neighbouring pair is exchanged,
    widened to :math:`\pm 1`. Fewer than 4 pairs say nothing: -1 to 1.

    Reference: D. Bonett and T. Wright, Psychometrika 65 (2000), 23-28, eq. 5.
    """
    if math.isnan(value):
        return math.nan, math.nan
    if count < 4:
        return -1.0, 1.0
    limit = 1 - 12 / (count * (count**2 - 1))
    inner = max(-limit, min(limit, value))
    reach = 1.959964 * math.sqrt((1 + inner**2 / 2) / (count - 3))
    low, high = math.tanh(math.atanh(inner) - reach), math.tanh(math.atanh(inner) + reach)
    return (-1.0 if value < -limit else low), (1.0 if value > limit else high)


def _standard(places: Sequence[float]) -> np.ndarray:
    x = np.asarray(places) - np.mean(places)
    return x / norm if (norm := np.linalg.norm(x)) > 0 else x
