"""Accuracy class by class, which the largest class does not decide."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isosphere.evaluation._intervals import Estimate, wilson


def class_recalls(right: Tensor, labels: Tensor, *, level: float = 0.95) -> dict[int, Estimate]:
    """Share of each class that is labelled rightly, with Wilson's interval, the classes in order.

    Shape: `right` (n,) of 0 and 1, `labels` int64 (n,), none negative.

    Raises: ValueError for other shapes.
    """
    if right.shape != labels.shape or labels.ndim != 1 or (len(labels) and int(labels.min()) < 0):
        raise ValueError(
            f"right, labels: got shapes {tuple(right.shape)} and {tuple(labels.shape)}, expected (n,) both, and labels "
            "from 0"
        )
    right, labels = right.cpu(), labels.cpu()
    classes, column, counts = labels.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(classes), dtype=torch.float64).index_add_(0, column, right.double())
    return {
        label: wilson(hit, count, level=level)
        for label, hit, count in zip(classes.tolist(), hits.tolist(), counts.tolist(), strict=True)
    }


def balanced_accuracy(right: Tensor, labels: Tensor, *, level: float = 0.95) -> Estimate:
    r"""Mean recall of the classes that occur: accuracy in which each of them counts the same.

    Shapes and errors as of :func:`class_recalls`.

    Scale: 0 to 1; 1 / C for whoever always names the same of C classes, or guesses. nan without rows.

    Interval: with :math:`[l_c, u_c]` Wilson's of class c, :math:`\bar r - \sqrt{\sum (r_c - l_c)^2} / C` to
    :math:`\bar r + \sqrt{\sum (u_c - r_c)^2} / C`; a class of few rows makes it as wide as it should be.

    Reference: G. Zou, A. Donner, Construction of confidence limits about effect measures, Statistics in Medicine 27
    (2008), eq. 4, for a mean of proportions.
    """
    return mean_recall(list(class_recalls(right, labels, level=level).values()))


def mean_recall(recalls: Sequence[Estimate]) -> Estimate:
    """Mean of the recalls of classes, with the interval of :func:`balanced_accuracy`; nan of none."""
    count = len(recalls)
    if count == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    value = sum(r.value for r in recalls) / count
    below = sum((r.value - r.low) ** 2 for r in recalls) ** 0.5 / count
    above = sum((r.high - r.value) ** 2 for r in recalls) ** 0.5 / count
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def class_weights(labels: Tensor) -> Tensor:
    """Weights of mean 1 by which each class counts the same: float64 (n,)."""
    classes, column, counts = labels.unique(return_inverse=True, return_counts=True)
    return len(labels) / (len(classes) * counts[column]).double()
