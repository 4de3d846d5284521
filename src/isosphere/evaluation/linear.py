"""The linear probe: logistic regression on frozen features, its penalty chosen without the test set."""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.data import stratified_split
from isosphere.evaluation.intervals import Estimate, wilson
from isosphere.evaluation.labels import finite_rows, integer_labels, labelled_rows
from isosphere.evaluation.logistic import Logistic, fit_logistic

__all__ = ["PENALTIES", "LinearPrediction", "linear_predict", "linear_probe"]

PENALTIES = tuple(10.0 ** (-k / 2) for k in range(11))
"""1 to 1e-5 in half decades: penalties on standardised features, per row."""

_VALIDATION = 0.2


@dataclass(frozen=True, slots=True)
class LinearPrediction:
    """Predicted labels int64 ``(m,)`` and how the probe came to them.

    `penalty`: the one chosen; `validation`: accuracy of each penalty on the part of the training set that was
    held out, empty if there was nothing to choose; `at_edge`: the choice was the first or last of several, so
    that a wider grid may do better; `model`: the final fit, on standardised features; `converged`.
    """

    labels: Tensor
    penalty: float
    validation: dict[float, float]
    at_edge: bool
    converged: bool
    model: Logistic


def linear_probe(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    test_y: ArrayLike | Tensor,
    *,
    penalties: tuple[float, ...] = PENALTIES,
    standardise: bool = True,
    seed: int = 0,
) -> Estimate:
    """Share of test rows that :func:`linear_predict` labels rightly, with Wilson's 95 % interval.

    Test rows labelled -1 are left out; one of a class without training rows counts as wrong.

    Shape: features ``(n, p)`` and ``(m, p)``, labels ``(n,)`` and ``(m,)``; arrays or tensors.

    Scale: accuracy, 0 to 1; a constant encoder scores the share of the largest training class. (nan, 0, 1) if
    no test row is labelled.

    Raises: ValueError as :func:`linear_predict`, and if test features and labels differ in number.
    """
    x, y = labelled_rows(
        finite_rows(test_x, "test_x"), integer_labels(test_y, "test_y"), ("test_x", "test_y")
    )
    made = linear_predict(train_x, train_y, x, penalties=penalties, standardise=standardise, seed=seed)
    return wilson(int((made.labels.cpu() == y.cpu()).sum()), len(y))


def linear_predict(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    *,
    penalties: tuple[float, ...] = PENALTIES,
    standardise: bool = True,
    seed: int = 0,
) -> LinearPrediction:
    """Multinomial logistic regression, fitted on the training rows with the penalty that serves them best.

    A stratified fifth of the training rows, drawn by the seed, is held out; the penalty with the largest
    accuracy there (of equals the smallest cross-entropy) is used to fit all training rows again. The test
    rows choose nothing. Without enough rows to hold any out, the middle of the grid is taken.

    Args:
        penalties: the grid of lambda in :func:`fit_logistic`, any order; a single one is used as it is.
        standardise: bring features to mean 0 and variance 1 on the training rows first, which gives the
            penalty one meaning for every encoder; constant features drop out. False fits them as they are.

    Raises: ValueError if no training row is labelled, shapes disagree, features are not finite, or the grid
    is empty or not positive. Training rows labelled -1 are left out.

    Numerics: float64 features are fitted in float64, others in float32; the training set is
    copied three times. With
    more features than rows the fit happens in the span of the rows, which is exact.
    """
    x, y = labelled_rows(
        finite_rows(train_x, "train_x"), integer_labels(train_y, "train_y"), ("train_x", "train_y")
    )
    test = finite_rows(test_x, "test_x").to(x.device, x.dtype)
    if test.shape[1] != x.shape[1]:
        raise ValueError(
            f"train_x, test_x: got {x.shape[1]} and {test.shape[1]} features, expected as many in both"
        )
    if len(y) == 0:
        raise ValueError("train_y: got no labelled row, expected at least one label >= 0 (-1: unlabelled)")
    if not penalties or not min(penalties) > 0:
        raise ValueError(f"penalties: got {penalties}, expected positive numbers such as (1e-3, 1e-2)")
    grid = sorted(set(penalties), reverse=True)
    if standardise:
        x, test = _standardised(x, test)
    if x.shape[1] > len(x):
        # The penalty keeps the weights in the span of the rows: rotate it to the first coordinates.
        basis = torch.linalg.qr((x - x.mean(0)).T).Q
        x, test = x @ basis, test @ basis
    fitted, held = (
        torch.as_tensor(part, device=x.device)
        for part in stratified_split(y.cpu().numpy(), test_fraction=_VALIDATION, seed=seed)
    )
    scores: dict[float, tuple[float, float]] = {}
    if len(grid) > 1 and len(held):
        model, part_x, part_y = None, x[fitted], y[fitted]
        for penalty in grid:
            model = fit_logistic(part_x, part_y, penalty=penalty, start=model)
            scores[penalty] = _held_out(model, x[held], y[held])
    chosen = max(scores, key=lambda p: scores[p]) if scores else grid[len(grid) // 2]
    final = fit_logistic(x, y, penalty=chosen)
    return LinearPrediction(
        labels=final.predict(test),
        penalty=chosen,
        validation={penalty: accuracy for penalty, (accuracy, _) in scores.items()},
        at_edge=bool(scores) and chosen in (grid[0], grid[-1]),
        converged=final.converged,
        model=final,
    )


def _held_out(model: Logistic, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy and minus the cross-entropy; no class of `y` is missing from the fit, by the stratified split."""
    logits = model.logits(x)
    column = torch.searchsorted(model.classes, y)
    accuracy = float((logits.argmax(1) == column).double().mean())
    return accuracy, -float(functional.cross_entropy(logits.double(), column))


def _standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = train.mean(0), train.std(0, correction=0)
    constant = std <= 1e-6 * mean.abs().clamp(min=torch.finfo(train.dtype).tiny)
    scale = torch.where(constant, 0.0, 1 / std)
    return (train - mean) * scale, (test - mean) * scale
