"""Intervals for statistics that are no means: what they are without each tenth of the rows."""

from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor

from isosphere.evaluation._intervals import Estimate

GROUPS = 10
"""Parts of the rows that are left out in turn."""


def jackknife(x: Tensor, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    """Standard error of a statistic of rows from what it is without each of ten groups of them."""
    group = torch.arange(len(x), device=x.device) % GROUPS
    parts = torch.stack([torch.as_tensor(statistic(x[group != g])).double() for g in range(GROUPS)])
    return ((GROUPS - 1) / GROUPS * (parts - parts.mean(0)).square().sum(0)).sqrt()


def symmetric(value: float, error: float, low: float = -float("inf"), high: float = float("inf")) -> Estimate:
    """The normal 95 % interval for a standard error, cut at the bounds of what is possible."""
    half = NormalDist().inv_cdf(0.975) * error
    return Estimate(value, max(value - half, min(low, value)), min(value + half, max(high, value)))
