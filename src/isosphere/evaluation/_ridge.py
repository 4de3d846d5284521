"""Kernel ridge and nearest-neighbour regression: two of the three estimators that uniformity is optimal for."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.data import permutation
from isosphere.evaluation._intervals import Estimate, bootstrap, wilson
from isosphere.evaluation._labels import finite_rows, integer_labels, judged, labelled_rows
from isosphere.reductions import full_precision, nearest_neighbours

Kernel = Literal["exponential", "linear"]
_Map = Callable[[Tensor], Tensor]
"""Exponential dot-product kernel, or the inner product itself."""

RIDGES = tuple(10.0**k for k in range(-4, 3))
"""Penalties lambda of ``K + lambda I``, with unit rows."""

_LANDMARKS = 2048
_EXACT = 10_000
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class RidgePrediction:
    """Predicted targets float64 ``(m, t)`` and how they came about.

    `kappa` (nan for the linear kernel) and `penalty`: those chosen; `leave_one_out`: mean squared
    leave-one-out residual of each ``(kappa, penalty)``; `at_edge`: the penalty chosen was the first or last of
    several; `solver`: in words, and whether it is exact.
    """

    values: Tensor
    kappa: float
    penalty: float
    leave_one_out: dict[tuple[float, float], float]
    at_edge: bool
    solver: str


def kernel_ridge(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    test_y: ArrayLike | Tensor,
    *,
    kernel: Kernel = "exponential",
    kappas: tuple[float, ...] = (8.0,),
    penalties: tuple[float, ...] = RIDGES,
    exact_up_to: int = _EXACT,
    landmarks: int = _LANDMARKS,
    seed: int = 0,
) -> Estimate:
    """Share of test rows that :func:`ridge_classify` labels rightly, with Wilson's 95 % interval.

    Test rows labelled -1 are left out; one of a class without training rows counts as wrong. Arguments and
    errors as of :func:`ridge_regress`.
    """
    x, y = labelled_rows(
        finite_rows(test_x, "test_x"), integer_labels(test_y, "test_y"), ("test_x", "test_y")
    )
    labels, _ = ridge_classify(
        train_x,
        train_y,
        x,
        kernel=kernel,
        kappas=kappas,
        penalties=penalties,
        exact_up_to=exact_up_to,
        landmarks=landmarks,
        seed=seed,
    )
    return wilson(int((labels.cpu() == y.cpu()).sum()), len(y))


def ridge_classify(
    train_x: ArrayLike | Tensor, train_y: ArrayLike | Tensor, test_x: ArrayLike | Tensor, **options
) -> tuple[Tensor, RidgePrediction]:
    """Labels int64 ``(m,)`` by regression on class indicators, the smaller of equals, and the regression.

    Training rows labelled -1 are left out. `options` and errors as of :func:`ridge_regress`, and ValueError if
    no training row is labelled.
    """
    x, y = labelled_rows(
        finite_rows(train_x, "train_x"), integer_labels(train_y, "train_y"), ("train_x", "train_y")
    )
    if len(y) == 0:
        raise ValueError("train_y: got no labelled row, expected at least one label >= 0 (-1: unlabelled)")
    classes, column = y.unique(return_inverse=True)
    made = _regress(x, _Targets(column, len(classes)), finite_rows(test_x, "test_x"), **options)
    return classes.to(made.values.device)[made.values.argmax(1)], made


def ridge_regress(
    train_x: ArrayLike | Tensor,
    targets: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    *,
    kernel: Kernel = "exponential",
    kappas: tuple[float, ...] = (8.0,),
    penalties: tuple[float, ...] = RIDGES,
    normalise: bool = True,
    exact_up_to: int = _EXACT,
    landmarks: int = _LANDMARKS,
    seed: int = 0,
) -> RidgePrediction:
    """Kernel ridge regression, its penalty (and kappa) chosen by the exact leave-one-out error.

    .. math:: (K + \\lambda I) \\alpha = Y, \\qquad
              y_i - f^{(-i)}(x_i) = \\alpha_i / [(K + \\lambda I)^{-1}]_{ii} ,

    with ``K_ij = exp(kappa (<x_i, x_j> - 1))`` or ``<x_i, x_j>``, no intercept, the same lambda with and
    without row i.

    Args:
        train_x, test_x: ``(n, p)`` and ``(m, p)``; rows are normalised first unless `normalise` is False.
        targets: ``(n,)`` or ``(n, t)``; rows that are not finite are left out.
        kappas, penalties: the grid; of equal errors the larger penalty is taken. kappa is not used by the
            linear kernel.
        exact_up_to: up to so many training rows the exponential kernel is solved exactly, by Cholesky
            factorisation. Beyond, on `landmarks` training rows drawn by the seed (Nyström): the regression on
            the features ``R^T k(landmarks, x)`` with ``R R^T`` the inverse kernel of the landmarks, whose
            leave-one-out error is again exact given the landmarks. The linear kernel is exact for any n.

    Returns: predictions and, in `solver`, which of these it was.

    Raises: ValueError for other shapes, non-finite features, no rows, or a grid that is empty or not positive.

    Numerics: float64. Cholesky: two thirds n^3 operations per point of the grid and 16 n^2 bytes (1.6 GB and
    about half a minute per point on one core at n = 10,000). Otherwise 2 n q^2 for q features, once per kappa, and
    8 q^2 bytes: rows are mapped block by block, and none are kept beside the features.

    Reference: SPHERE-JEPA (arXiv 2605.26900), kernel exp(kappa <x, y>): the same up to lambda e^-kappa.
    """
    x, test = finite_rows(train_x, "train_x"), finite_rows(test_x, "test_x")
    y = torch.as_tensor(targets).to(x.device).double()
    if y.ndim not in (1, 2) or len(y) != len(x):
        raise ValueError(
            f"train_x, targets: got shapes {tuple(x.shape)} and {tuple(y.shape)}, expected (n, p), and (n,) or (n, t)"
        )
    y = y[:, None] if y.ndim == 1 else y
    known = torch.isfinite(y).all(1)
    return _regress(
        x[known],
        _Targets(y[known]),
        test,
        kernel=kernel,
        kappas=kappas,
        penalties=penalties,
        normalise=normalise,
        exact_up_to=exact_up_to,
        landmarks=landmarks,
        seed=seed,
    )


class _Targets:
    """Targets ``(n, t)`` as they are, or the indicators of so many classes ``(n,)``, which are not kept."""

    def __init__(self, y: Tensor, classes: int = 0) -> None:
        self._y, self._classes = y, classes

    def __getitem__(self, here: slice) -> Tensor:
        return functional.one_hot(self._y[here], self._classes).double() if self._classes else self._y[here]


def _regress(
    x: Tensor,
    y: _Targets,
    test: Tensor,
    *,
    kernel: Kernel = "exponential",
    kappas: tuple[float, ...] = (8.0,),
    penalties: tuple[float, ...] = RIDGES,
    normalise: bool = True,
    exact_up_to: int = _EXACT,
    landmarks: int = _LANDMARKS,
    seed: int = 0,
) -> RidgePrediction:
    """:func:`ridge_regress` of rows that all have targets."""
    if x.shape[1] != test.shape[1]:
        raise ValueError(
            f"train_x, test_x: got shapes {tuple(x.shape)} and {tuple(test.shape)}, expected (n, p) and (m, p)"
        )
    if kernel not in ("exponential", "linear"):
        raise ValueError(f"kernel: got {kernel!r}, expected 'exponential' or 'linear'")
    for name, grid in (("penalties", penalties), ("kappas", kappas)):
        if not grid or not min(grid) > 0:
            raise ValueError(f"{name}: got {grid}, expected positive numbers such as (0.1, 1.0)")
    if len(x) == 0:
        raise ValueError("targets: got no row with finite targets, expected at least one")

    def prepared(rows: Tensor) -> Tensor:
        rows = rows.to(x.device).double()
        return functional.normalize(rows, dim=1) if normalise else rows

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(x), _BLOCK):
            here = slice(start, min(start + _BLOCK, len(x)))
            yield prepared(x[here]), y[here]

    ordered = sorted(set(penalties), reverse=True)
    with full_precision(x.device), torch.no_grad():
        solve: Callable[[_Map], dict[float, _Fit]] = partial(_solve_primal, blocks=blocks, penalties=ordered)
        if kernel == "linear":
            maps: dict[float, _Map] = {float("nan"): lambda rows: rows}
            solver = f"exact, from the {x.shape[1]} features"
        elif len(x) <= exact_up_to:
            whole = prepared(x)
            maps = {kappa: partial(_exponential, other=whole, kappa=kappa) for kappa in kappas}
            solve = partial(_solve_dual, x=whole, y=y[:], penalties=ordered)
            solver = "exact, by Cholesky factorisation"
        else:
            drawn = permutation(len(x), seed, 0)[: min(landmarks, len(x))].to(x.device)
            marks = prepared(x[drawn])
            maps = {kappa: _nystroem(marks, kappa) for kappa in kappas}
            solver = f"approximate: Nyström, {len(marks):,} landmarks of {len(x):,} training rows"
        best, errors = None, {}
        for kappa, features in maps.items():
            fits = solve(features)
            errors |= {(kappa, penalty): fit.error for penalty, fit in fits.items()}
            near = min(fits, key=lambda penalty: fits[penalty].error)
            if best is None or fits[near].error < best[2].error:
                best = kappa, near, fits[near]
        assert best is not None
        kappa, penalty, fit = best
        values = [maps[kappa](prepared(block)) @ fit.coefficients for block in test.split(_BLOCK)]
    return RidgePrediction(
        torch.cat(values),
        kappa,
        penalty,
        errors,
        len(ordered) > 1 and penalty in (ordered[0], ordered[-1]),
        solver,
    )


def knn_regress(
    train_x: ArrayLike | Tensor, targets: ArrayLike | Tensor, test_x: ArrayLike | Tensor, *, k: int = 20
) -> Tensor:
    """Mean target of the k nearest training rows by cosine: float64 ``(m,)`` or ``(m, t)``, as the targets.

    Training rows whose targets are not finite are left out; k beyond the others means all of them. Of rows
    equally near at the k-th place the first ones count.

    Raises: ValueError for shapes that disagree, non-finite features, no row with targets, or k < 1.
    """
    x, test = finite_rows(train_x, "train_x"), finite_rows(test_x, "test_x")
    y = torch.as_tensor(targets).to(x.device).double()
    if y.ndim not in (1, 2) or len(y) != len(x) or k < 1:
        raise ValueError(
            f"train_x, targets, k: got {len(x)} rows, targets {tuple(y.shape)} and {k}, expected (n, p), (n,) "
            "or (n, t), and 1 or more"
        )
    known = torch.isfinite(y) if y.ndim == 1 else torch.isfinite(y).all(1)
    x, y = functional.normalize(x[known], dim=1), y[known]
    if len(x) == 0:
        raise ValueError("targets: got no row with finite targets, expected at least one")
    if len(test) == 0:
        return y[:0]
    _, near = nearest_neighbours(functional.normalize(test.to(x), dim=1), x, min(k, len(x)))
    return torch.cat([y[rows].mean(1) for rows in near.split(_BLOCK)])


def r_squared(predicted: ArrayLike | Tensor, actual: ArrayLike | Tensor, *, seed: int = 0) -> Estimate:
    """Share of the targets' variance that the predictions explain, with the bootstrap interval over rows.

    .. math:: 1 - \\sum_i |y_i - \\hat y_i|^2 / \\sum_i |y_i - \\bar y|^2

    Shape: ``(m,)`` or ``(m, t)`` both; several targets are pooled, so scale them alike. Rows whose actual
    value is not finite are left out.

    Scale: 1 for perfect predictions, 0 for the mean of the actual values, below for worse. nan if these do
    not vary.

    Raises: ValueError if shapes differ or a prediction is not finite.
    """
    a, b = (judged(part).cpu().double() for part in (predicted, actual))
    if a.shape != b.shape or a.ndim not in (1, 2):
        raise ValueError(
            f"predicted, actual: got shapes {tuple(a.shape)} and {tuple(b.shape)}, expected (m,) or (m, t) both"
        )
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    known = torch.isfinite(b).all(1)
    a, b = a[known], b[known]
    if len(b) == 0 or bool((b == b[:1]).all()):
        return Estimate(*[float("nan")] * 3)

    def explained(rows: np.ndarray) -> float:
        residual, target = np.split(rows, 2, axis=1)
        spread = np.square(target - target.mean(0)).sum()
        # A resample of a single repeated row says nothing of the variance.
        return 1 - np.square(residual).sum() / spread if spread > 0 else 0.0

    return bootstrap(torch.cat([a - b, b], 1), explained, seed=seed, resamples=1000)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Coefficients of the mapped rows, and the mean squared leave-one-out residual."""

    coefficients: Tensor
    error: float


def _solve_dual(features: _Map, x: Tensor, y: Tensor, penalties: list[float]) -> dict[float, _Fit]:
    """``(K + lambda I) alpha = Y`` for each lambda, by Cholesky factorisation."""
    gram = features(x)
    diagonal = gram.diagonal().clone()
    fits = {}
    for penalty in penalties:
        gram.diagonal().copy_(diagonal + penalty)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:  # duplicated rows, and a penalty below their rounding
            fits[penalty] = _Fit(torch.zeros_like(y), float("inf"))
            continue
        alpha = torch.cholesky_solve(y, factor)
        # The diagonal of the inverse is the squared columns of the inverse factor.
        identity = torch.eye(len(y), dtype=y.dtype, device=y.device)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False, out=identity)
        residuals = alpha / inverse.square_().sum(0)[:, None]
        fits[penalty] = _Fit(alpha, float(residuals.square().mean()))
    return fits


def _solve_primal(
    features: _Map, blocks: Callable[[], Iterable[tuple[Tensor, Tensor]]], penalties: list[float]
) -> dict[float, _Fit]:
    """``(F^T F + lambda I) w = F^T Y`` for all lambda, from one eigen-decomposition of ``F^T F``; F is never whole."""
    gram, right = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for rows, y in blocks():
        f = features(rows)
        gram, right = f.T @ f + gram.to(f), f.T @ y + right.to(f)
    values, basis = torch.linalg.eigh(gram)
    values, projected = values.clamp(min=0), basis.T @ right
    weights = {penalty: projected / (values + penalty)[:, None] for penalty in penalties}
    errors, count = dict.fromkeys(penalties, 0.0), 0
    for rows, y in blocks():
        rotated = features(rows) @ basis
        squares = rotated.square()
        count += y.numel()
        for penalty in penalties:
            leverage = squares @ (1 / (values + penalty))
            # lambda / (lambda + ...) in exact arithmetic: positive, whatever the rounding.
            rest = (1 - leverage).clamp(min=torch.finfo(rotated.dtype).eps)
            residuals = (y - rotated @ weights[penalty]) / rest[:, None]
            errors[penalty] += float(residuals.square().sum())
    return {penalty: _Fit(basis @ weights[penalty], errors[penalty] / count) for penalty in penalties}


def _exponential(rows: Tensor, other: Tensor, kappa: float) -> Tensor:
    return (rows @ other.T).sub_(1).mul_(kappa).exp_()


def _nystroem(marks: Tensor, kappa: float) -> _Map:
    """Features whose inner products are the kernel's where a landmark takes part, and close elsewhere."""
    values, basis = torch.linalg.eigh(_exponential(marks, marks, kappa))
    kept = values > 1e-12 * values[-1]  # duplicated landmarks count once
    root = basis[:, kept] / values[kept].sqrt()
    return lambda rows: _exponential(rows, marks, kappa) @ root
