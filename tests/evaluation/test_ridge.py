"""Kernel ridge against scikit-learn and refits, k-NN regression and R^2 against scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor
from torch.nn import functional

from isosphere.evaluation import (
    kernel_ridge,
    knn_regress,
    r_squared,
    ridge_classify,
    ridge_regress,
)


def problem(n=160, p=6, t=2):
    x = torch.randn(n, p, dtype=torch.float64)
    u = functional.normalize(x, dim=1)
    y = torch.stack([(2 * u[:, 0]).sin() + u[:, 1] ** 2, u[:, 2]], 1)[:, :t]
    return x, y + 0.1 * torch.randn(n, t, dtype=torch.float64)


def unit(x):
    return functional.normalize(x, dim=1).numpy()


def reference(penalty: Any, kernel="linear"):
    # Any: scikit-learn's annotation knows whole numbers only.
    return KernelRidge(alpha=penalty, kernel=kernel)


def gram(a, b, kernel, kappa):
    c = unit(a) @ unit(b).T
    return np.exp(kappa * (c - 1)) if kernel == "exponential" else c


@pytest.mark.parametrize("kernel", ["exponential", "linear"])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_predictions_are_scikit_learns(kernel, penalty):
    x, y = problem()
    made = ridge_regress(x[:100], y[:100], x[100:], kernel=kernel, kappas=(3.0,), penalties=(penalty,))
    model = reference(penalty, kernel="precomputed")
    model.fit(gram(x[:100], x[:100], kernel, 3.0), y[:100].numpy())
    np.testing.assert_allclose(
        made.values, model.predict(gram(x[100:], x[:100], kernel, 3.0)), rtol=1e-6, atol=1e-9
    )
    assert made.solver.startswith("exact")
    assert not made.at_edge


@pytest.mark.parametrize(
    ("kernel", "exact_up_to"), [("exponential", 100), ("linear", 100), ("exponential", 10)]
)
def test_leave_one_out_is_that_of_refits(kernel, exact_up_to):
    x, y = problem(25)
    penalties = (1e-2, 1.0)
    made = ridge_regress(
        x, y, x, kernel=kernel, kappas=(2.0,), penalties=penalties, exact_up_to=exact_up_to, landmarks=25
    )
    for penalty in penalties:
        residuals = []
        for i in range(25):
            rest = torch.arange(25) != i
            model = reference(penalty, kernel="precomputed")
            model.fit(gram(x[rest], x[rest], kernel, 2.0), y[rest].numpy())
            # With every row a landmark Nyström is exact.
            residuals.append(y[i].numpy() - model.predict(gram(x[i : i + 1], x[rest], kernel, 2.0))[0])
        error = {p: e for (_, p), e in made.leave_one_out.items()}[penalty]
        assert error == pytest.approx(np.mean(np.square(residuals)), rel=1e-6)


def test_the_point_of_the_grid_with_the_least_error_is_used():
    x, y = problem()
    made = ridge_regress(x[:100], y[:100], x[100:], kappas=(0.5, 2.0, 30.0), penalties=(1e-3, 1e-1, 10.0))
    assert len(made.leave_one_out) == 9
    assert (made.kappa, made.penalty) == min(made.leave_one_out, key=lambda key: made.leave_one_out[key])
    alone = ridge_regress(x[:100], y[:100], x[100:], kappas=(made.kappa,), penalties=(made.penalty,))
    torch.testing.assert_close(made.values, alone.values)
    assert ridge_regress(x[:100], y[:100], x[100:], penalties=(10.0, 100.0)).at_edge


def test_beyond_the_exact_size_landmarks_take_over_and_say_so():
    x, y = problem(700)
    exact = ridge_regress(x[:500], y[:500], x[500:], kappas=(1.0,))
    near = ridge_regress(x[:500], y[:500], x[500:], kappas=(1.0,), exact_up_to=400, landmarks=150)
    assert near.solver == "approximate: Nyström, 150 landmarks of 500 training rows"
    assert (near.values - exact.values).square().mean() < 0.01 * exact.values.var()
    few = ridge_regress(x[:500], y[:500], x[500:], kappas=(1.0,), exact_up_to=400, landmarks=3)
    assert (few.values - exact.values).square().mean() > (near.values - exact.values).square().mean()


def test_raw_rows_for_the_linear_kernel_on_request():
    x, y = problem(80, t=1)
    made = ridge_regress(x[:60], y[:60, 0], x[60:], kernel="linear", penalties=(0.3,), normalise=False)
    model = reference(0.3).fit(x[:60].numpy(), y[:60].numpy())
    np.testing.assert_allclose(made.values, model.predict(x[60:].numpy()), rtol=1e-8)


def test_labels_by_regression_on_indicators():
    centres = torch.randn(4, 8)
    y = torch.randint(4, (400,))
    x = centres[y] + 0.8 * torch.randn(400, 8)
    labels, made = ridge_classify(x[:300], y[:300] * 3, x[300:])
    assert torch.equal(labels, made.values.argmax(1) * 3)
    got = kernel_ridge(x[:300], y[:300], x[300:], y[300:])
    assert got.value == pytest.approx((labels == 3 * y[300:]).double().mean().item())
    assert got.value > 0.8
    hidden = torch.where(torch.arange(400) % 3 == 0, -1, y)
    train, test = hidden[:300] >= 0, hidden[300:] >= 0
    assert kernel_ridge(x[:300], hidden[:300], x[300:], hidden[300:]) == kernel_ridge(
        x[:300][train], y[:300][train], x[300:][test], y[300:][test]
    )


def test_one_class_duplicates_and_collapse():
    x = torch.randn(20, 3)
    assert kernel_ridge(x, torch.full((20,), 2), x, torch.full((20,), 2)).value == 1.0
    y = torch.arange(60) % 3
    choices: tuple[dict[str, Any], ...] = ({}, {"kernel": "linear"}, {"exact_up_to": 10, "landmarks": 20})
    for options in choices:
        same = kernel_ridge(torch.ones(60, 4), y, torch.ones(30, 4), y[:30], **options)
        assert same.value == pytest.approx(1 / 3), options
    twice = torch.cat([x, x]).double()
    made = ridge_regress(twice, torch.cat([x, x])[:, 0], x, penalties=(1e-12, 1e-20))
    assert torch.isfinite(made.values).all()
    # The twin of every row predicts it.
    assert min(made.leave_one_out.values()) < 1e-6


def test_a_class_absent_from_training_is_wrong_and_targets_may_be_missing():
    x = torch.eye(3).repeat(5, 1)
    y = torch.arange(3).repeat(5)
    assert kernel_ridge(x[y < 2], y[y < 2], x, y).value == pytest.approx(2 / 3)
    a, b = problem(50, t=1)
    holes = b[:, 0].clone()
    holes[:10] = float("nan")
    got = ridge_regress(a, holes, a, penalties=(0.1,)).values
    torch.testing.assert_close(got, ridge_regress(a[10:], b[10:, 0], a, penalties=(0.1,)).values)


@pytest.mark.parametrize("k", [1, 7, 100])
def test_nearest_neighbours_regress_as_scikit_learns(k):
    x, y = problem(120)
    model = KNeighborsRegressor(min(k, 80), algorithm="brute").fit(unit(x[:80]), y[:80].numpy())
    np.testing.assert_allclose(knn_regress(x[:80], y[:80], x[80:], k=k), model.predict(unit(x[80:])))
    np.testing.assert_allclose(knn_regress(x[:80], y[:80, 0], x[80:], k=k), model.predict(unit(x[80:]))[:, 0])


def test_neighbours_without_targets_are_left_out():
    x, y = problem(40, t=1)
    holes = y[:, 0].clone()
    holes[::2] = float("nan")
    torch.testing.assert_close(knn_regress(x, holes, x, k=3), knn_regress(x[1::2], y[1::2, 0], x, k=3))
    with pytest.raises(ValueError, match="finite targets"):
        knn_regress(x, torch.full((40,), float("nan")), x)
    with pytest.raises(ValueError, match="1 or more"):
        knn_regress(x, y, x, k=0)


def test_explained_variance_is_scikit_learns():
    y = torch.randn(200)
    guess = y + 0.5 * torch.randn(200)
    got = r_squared(guess, y)
    assert got.value == pytest.approx(r2_score(y.numpy(), guess.numpy()), rel=1e-6)
    assert got.low < got.value < got.high
    assert r_squared(y, y).value == 1.0
    assert r_squared(y.mean().expand(200), y).value == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(r_squared(torch.zeros(3), torch.ones(3)).value)
    two = r_squared(torch.stack([guess, y], 1), torch.stack([y, y], 1))
    assert two.value == pytest.approx((got.value + 1) / 2, rel=1e-6)
    with pytest.raises(ValueError, match="both"):
        r_squared(torch.zeros(3), torch.zeros(4))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": torch.zeros(4)}, "expected \\(n, p\\)"),
        ({"test_x": torch.zeros(2, 9)}, "expected \\(n, p\\)"),
        ({"targets": torch.full((5,), float("nan"))}, "finite targets"),
        ({"kernel": "rbf"}, "'exponential' or 'linear'"),
        ({"penalties": (0.0,)}, "penalties"),
        ({"kappas": ()}, "kappas"),
        ({"train_x": torch.full((5, 3), float("inf"))}, "non-finite"),
    ],
)
def test_wrong_arguments_are_refused(change, says):
    arguments = {"train_x": torch.eye(5)[:, :3], "targets": torch.arange(5.0), "test_x": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=says):
        ridge_regress(**(arguments | change))
