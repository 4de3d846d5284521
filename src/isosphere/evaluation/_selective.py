"""Whether an uncertainty tells where errors are: the risk among the most certain images."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._intervals import Estimate
from isosphere.evaluation._labels import judged

__all__ = ["risk_coverage", "selective_risk"]


def risk_coverage(errors: ArrayLike | Tensor, uncertainty: ArrayLike | Tensor) -> Tensor:
    """The risk-coverage curve: mean error among the k rows of least uncertainty, for k = 1 to n: float64 ``(n,)``.

    Rows of equal uncertainty stand in an order drawn at random, in expectation: each counts as their mean error.
    The last value is the mean error of all. Coverage is k/n.

    Raises: ValueError for other shapes than two of one ``(n,)``, no rows, or numbers that are not finite.

    Reference: Geifman and El-Yaniv, Selective classification for deep neural networks, 1705.08500.
    """
    wrong, unsure = (judged(x).cpu().double() for x in (errors, uncertainty))
    if wrong.ndim != 1 or wrong.shape != unsure.shape or not len(wrong):
        raise ValueError(
            f"errors, uncertainty: got shapes {tuple(wrong.shape)} and {tuple(unsure.shape)}, expected two of one (n,)"
        )
    if not (torch.isfinite(wrong).all() and torch.isfinite(unsure).all()):
        raise ValueError("errors, uncertainty: got numbers that are not finite, expected finite ones")
    _, place, count = unsure.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(count), dtype=torch.float64).index_add_(0, place, wrong) / count
    expected = means.repeat_interleave(count)
    return expected.cumsum(0) / torch.arange(1, len(wrong) + 1)


def selective_risk(
    errors: ArrayLike | Tensor,
    uncertainty: ArrayLike | Tensor,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Estimate]:
    r"""Figures of the curve: ``risk`` of all rows, ``aurc``, the mean of :func:`risk_coverage`, and ``gain``.

    .. math:: \text{gain} = \frac{\text{risk} - \text{AURC}}{\text{risk} - \text{AURC of the errors themselves}}

    Scale: the gain is 1 for an uncertainty that puts errors in their order, 0 in expectation for one that has nothing
    to do with them, below 0 where it is larger for better rows; nan where all errors are equal.

    Intervals: bootstrap over rows, own generator, widened to hold the value. Errors as of :func:`risk_coverage`.
    """
    wrong, unsure = (torch.as_tensor(x).detach().cpu().double() for x in (errors, uncertainty))
    values = _figures(wrong, unsure)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.stack(
        [
            _figures(wrong[rows], unsure[rows])
            for rows in torch.randint(len(wrong), (resamples, len(wrong)), generator=generator)
        ]
    )
    tail = (1 - level) / 2
    low, high = draws.nanquantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return {
        name: Estimate(value.item(), min(value, a).item(), max(value, b).item())
        for name, value, a, b in zip(("risk", "aurc", "gain"), values, low, high, strict=True)
    }


def _figures(wrong: Tensor, unsure: Tensor) -> Tensor:
    """Risk, AURC and gain: ``(3,)``."""
    curve = risk_coverage(wrong, unsure)
    risk, area, least = curve[-1], curve.mean(), risk_coverage(wrong, wrong).mean()
    gain = (risk - area) / (risk - least) if risk - least > 1e-12 else torch.full_like(risk, torch.nan)
    return torch.stack([risk, area, gain])
