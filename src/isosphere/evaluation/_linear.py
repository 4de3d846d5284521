"""The linear probe: logistic regression on frozen features, its settings chosen without the test set."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.data import stratified_split
from isosphere.evaluation._descent import ADAMW_RATES, EPOCHS, SGD_RATES, Descent, fit_by_descent
from isosphere.evaluation._folds import grouped_folds
from isosphere.evaluation._intervals import Estimate, wilson
from isosphere.evaluation._labels import finite_rows, integer_labels, labelled_rows
from isosphere.evaluation._logistic import Logistic, fit_logistic
from isosphere.evaluation._rows import Rows

Solver = Literal["lbfgs", "adamw", "sgd"]

PENALTIES = tuple(10.0 ** (-k / 2) for k in range(11))
"""1 to 1e-5 in half decades: penalties on standardised features, per row."""

_VALIDATION = 0.2


@dataclass(frozen=True, slots=True)
class LinearPrediction:
    """Predicted labels int64 ``(m,)`` and how the probe came to them.

    `penalty`: the one chosen (of ``adamw`` and ``sgd`` the decay); `validation`: accuracy of each choice on the
    part of the training set that was held out, by penalty or by (learning rate, epochs), empty if there was
    nothing to choose; `at_edge`: the penalty or rate was the first or last of several, so that a wider grid
    may do better; `model`: the final fit, on standardised features; `converged`; `rate` and `epochs` of
    ``adamw`` and ``sgd``, else None.
    """

    labels: Tensor
    penalty: float
    validation: dict[float, float] | dict[tuple[float, int], float]
    at_edge: bool
    converged: bool
    model: Logistic
    solver: Solver = "lbfgs"
    rate: float | None = None
    epochs: int | None = None


def linear_probe(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    test_y: ArrayLike | Tensor,
    *,
    solver: Solver = "lbfgs",
    penalties: tuple[float, ...] = PENALTIES,
    rates: tuple[float, ...] | None = None,
    epochs: tuple[int, ...] = EPOCHS,
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
    made = linear_predict(
        train_x,
        train_y,
        x,
        solver=solver,
        penalties=penalties,
        rates=rates,
        epochs=epochs,
        standardise=standardise,
        seed=seed,
    )
    return wilson(int((made.labels.cpu() == y.cpu()).sum()), len(y))


def linear_predict(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    *,
    solver: Solver = "lbfgs",
    penalties: tuple[float, ...] = PENALTIES,
    rates: tuple[float, ...] | None = None,
    epochs: tuple[int, ...] = EPOCHS,
    standardise: bool = True,
    groups: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> LinearPrediction:
    """Multinomial logistic regression, fitted on the training rows with the settings that serve them best.

    A stratified fifth of the training rows, drawn by the seed, is held out; the settings with the largest
    accuracy there (of equals the smallest cross-entropy) are used to fit all training rows again. The test
    rows choose nothing. Without enough rows to hold any out, the middle of each grid is taken.

    Args:
        solver: ``lbfgs`` finds the minimum of the penalised loss (:func:`fit_logistic`); ``sgd`` and ``adamw``
            take minibatch steps from zero with a cosine schedule and no decay (:func:`fit_by_descent`), as
            most papers' linear evaluation does, so that the length of training is what regularises.
        penalties: of ``lbfgs``, the grid of lambda, any order; a single one is used as it is.
        rates: of ``adamw`` and ``sgd``, the grid of learning rates; None: 0.1 to 1e-4, or 1 to 3e-4.
        epochs: of ``adamw`` and ``sgd``, the grid of lengths; each is a schedule of its own.
        standardise: bring features to mean 0 and variance 1 on the training rows first, which gives the
            penalty one meaning for every encoder; constant features drop out. False fits them as they are.
        groups: ``(n,)`` numbers; training rows of one group are held out together (:func:`grouped_folds`).

    Raises: ValueError if no training row is labelled, shapes disagree, features are not finite, or a grid
    is empty or not positive. Training rows labelled -1 are left out.

    Numerics: float64 features are fitted in float64, others in float32. A training set of more than 32 million
    numbers is held once and standardised block by block (:class:`~isosphere.evaluation._rows.Rows`); beside it
    L-BFGS takes four arrays ``(n, classes)``, descent none.
    """
    x, test = Rows.checked(train_x, "train_x"), Rows.checked(test_x, "test_x")
    y = integer_labels(train_y, "train_y").to(x.device)
    groups = None if groups is None else integer_labels(groups, "groups").to(x.device)
    if groups is not None and len(groups) != len(y):
        raise ValueError(f"groups: got {len(groups)} numbers, expected {len(y)}, one for each training row")
    if len(x) != len(y):
        raise ValueError(f"train_x, train_y: got {len(x)} rows and {len(y)} labels, expected as many of each")
    if x.width != test.width:
        raise ValueError(
            f"train_x, test_x: got {x.width} and {test.width} features, expected as many in both"
        )
    if not bool((y >= 0).all()):
        groups = None if groups is None else groups[y >= 0]
        x, y = x.subset((y >= 0).nonzero()[:, 0]), y[y >= 0]
    if len(y) == 0:
        raise ValueError("train_y: got no labelled row, expected at least one label >= 0 (-1: unlabelled)")
    if solver not in get_args(Solver):
        raise ValueError(f"solver: got {solver!r}, expected one of {', '.join(get_args(Solver))}")
    if not penalties or not min(penalties) > 0:
        raise ValueError(f"penalties: got {penalties}, expected positive numbers such as (1e-3, 1e-2)")
    if rates is not None and not (rates and min(rates) > 0):
        raise ValueError(
            f"rates: got {rates}, expected positive learning rates such as (1e-3, 1e-2), or None"
        )
    if not epochs or not min(epochs) > 0:
        raise ValueError(f"epochs: got {epochs}, expected numbers of passes such as (10, 30, 100)")
    if standardise:
        x, test = x.standardised(torch.as_tensor(test_x).detach().to(x.dtype))
    fitted, held = (part.to(x.device) for part in _parts(y.cpu(), groups, seed))
    if solver != "lbfgs":
        grid = ADAMW_RATES if solver == "adamw" else SGD_RATES
        return _by_descent(x, y, test, (fitted, held), solver, grid if rates is None else rates, epochs, seed)
    grid = sorted(set(penalties), reverse=True)
    scores: dict[float, tuple[float, float]] = {}
    if len(grid) > 1 and len(held):
        model, part_x, part_y = None, x.subset(fitted), y[fitted]
        for penalty in grid:
            model = fit_logistic(part_x, part_y, penalty=penalty, start=model)
            scores[penalty] = _held_out(model, x.subset(held), y[held])
    chosen = max(scores, key=lambda p: scores[p]) if scores else grid[len(grid) // 2]
    final = fit_logistic(x, y, penalty=chosen, tolerance=1e-6)  # what is kept, and asked about images to come
    labels = final.predict(test)
    return LinearPrediction(
        labels=labels,
        penalty=chosen,
        validation={penalty: accuracy for penalty, (accuracy, _) in scores.items()},
        at_edge=bool(scores) and chosen in (grid[0], grid[-1]),
        converged=final.converged,
        model=final,
    )


def _by_descent(
    x: Rows,
    y: Tensor,
    test: Rows,
    parts: tuple[Tensor, Tensor],
    solver: Descent,
    rates: tuple[float, ...],
    epochs: tuple[int, ...],
    seed: int,
) -> LinearPrediction:
    fitted, held = parts
    grid, lengths = sorted(set(rates), reverse=True), sorted(set(epochs))
    scores: dict[tuple[float, int], tuple[float, float]] = {}
    if len(grid) * len(lengths) > 1 and len(held):
        for length in lengths:
            models = fit_by_descent(
                x.subset(fitted), y[fitted], solver=solver, rates=tuple(grid), epochs=length, seed=seed
            )
            for rate, model in zip(grid, models, strict=True):
                if model.converged:
                    scores[rate, length] = _held_out(model, x.subset(held), y[held])
    middle = (grid[len(grid) // 2], lengths[len(lengths) // 2])
    rate, length = max(scores, key=lambda s: scores[s]) if scores else middle
    final = fit_by_descent(x, y, solver=solver, rates=(rate,), epochs=length, seed=seed)[0]
    return LinearPrediction(
        labels=final.predict(test),
        penalty=final.penalty,
        validation={choice: accuracy for choice, (accuracy, _) in scores.items()},
        at_edge=bool(scores) and len(grid) > 1 and rate in (grid[0], grid[-1]),
        converged=final.converged,
        model=final,
        solver=solver,
        rate=rate,
        epochs=length,
    )


def _parts(y: Tensor, groups: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to fit, and rows that are held out, of classes that are among those."""
    if groups is None:
        fitted, held = stratified_split(y.numpy(), test_fraction=_VALIDATION, seed=seed)
        return torch.as_tensor(fitted), torch.as_tensor(held)
    out = grouped_folds(y, groups.cpu(), round(1 / _VALIDATION), seed=seed) == 0
    known = torch.isin(y, y[~out].unique())
    return (~out).nonzero()[:, 0], (out & known).nonzero()[:, 0]


def _held_out(model: Logistic, x: Rows, y: Tensor) -> tuple[float, float]:
    """Accuracy and minus the cross-entropy; no class of `y` is missing from the fit, by the stratified split."""
    logits = torch.cat([model.logits(block) for _, block in x.blocks()])
    column = torch.searchsorted(model.classes, y)
    accuracy = float((logits.argmax(1) == column).double().mean())
    return accuracy, -float(functional.cross_entropy(logits.double(), column))
