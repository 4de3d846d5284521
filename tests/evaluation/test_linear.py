"""The linear probe against scikit-learn at the same penalty, and where scikit-learn has no answer."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from isosphere.evaluation import fit_logistic, linear_predict, linear_probe
from isosphere.evaluation._logistic import _gradient
from isosphere.evaluation._quasi_newton import Memory
from isosphere.evaluation._rows import Rows


def clusters(n, classes, dim, spread=1.5):
    centres = torch.randn(classes, dim, dtype=torch.float64)
    labels = torch.arange(n) % classes
    mixing = torch.eye(dim, dtype=torch.float64) * torch.logspace(-1, 1, dim) + 0.2
    return (centres[labels] + spread * torch.randn(n, dim, dtype=torch.float64)) @ mixing + 3, labels


def objective(x, y, weight, bias, penalty):
    return (
        functional.cross_entropy(x.double() @ weight + bias, y) + penalty / 2 * weight.square().sum()
    ).item()


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("penalty", [1e-1, 1e-4])
def test_weights_are_scikit_learns_at_the_same_penalty(classes, penalty):
    x, y = clusters(400, classes, 12)
    got = fit_logistic(x, y, penalty=penalty, tolerance=1e-14)
    strength = (2 if classes == 2 else 1) / (penalty * len(x))
    model = LogisticRegression(C=strength, tol=1e-9, max_iter=20000).fit(x.numpy(), y.numpy())
    weight, bias = (got.weight, got.bias)
    if classes == 2:
        weight, bias = weight[:, 1:] - weight[:, :1], bias[1:] - bias[:1]
    assert got.converged
    np.testing.assert_allclose(weight.T, model.coef_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got.logits(x).softmax(1), model.predict_proba(x.numpy()), atol=1e-4)
    np.testing.assert_allclose(bias - bias.mean(), model.intercept_ - model.intercept_.mean(), atol=1e-2)


def test_the_gradient_vanishes_at_the_fit():
    x, y = clusters(300, 4, 20)
    got = fit_logistic(x, y, penalty=1e-3, tolerance=1e-16)
    weight, bias = got.weight.clone().requires_grad_(), got.bias.clone().requires_grad_()
    loss = functional.cross_entropy(x @ weight + bias, y) + 0.5e-3 * weight.square().sum()
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.abs().max() < 1e-6
    assert bias.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dim", [30, 2100])
def test_single_precision_comes_as_near_as_its_rounding_lets_it(dim):
    x, y = clusters(500, 5, dim)
    near, exact = (
        fit_logistic(part, y, penalty=1e-2, tolerance=tolerance)
        for part, tolerance in ((x.float(), 1e-7), (x, 1e-13))
    )
    assert near.converged
    low = objective(x, y, exact.weight, exact.bias, 1e-2)
    assert low <= objective(x, y, near.weight, near.bias, 1e-2) < low + 1e-5


def test_a_start_elsewhere_on_the_path_changes_nothing_but_the_way():
    x, y = clusters(300, 3, 8)
    first = fit_logistic(x, y, penalty=1e-1)
    warm = fit_logistic(x, y, penalty=1e-2, start=first, tolerance=1e-14)
    cold = fit_logistic(x, y, penalty=1e-2, tolerance=1e-14)
    torch.testing.assert_close(warm.weight, cold.weight, rtol=1e-4, atol=1e-5)
    again = fit_logistic(x, y, penalty=1e-2, start=warm, tolerance=1e-12)
    assert again.iterations <= 1
    with pytest.raises(ValueError, match="other classes"):
        fit_logistic(x, (y == 1).long(), penalty=1e-2, start=first)


def test_separable_classes_and_a_faint_penalty_converge():
    x = torch.cat([torch.randn(50, 3) - 20, torch.randn(50, 3) + 20])
    y = torch.arange(2).repeat_interleave(50)
    got = fit_logistic(x, y, penalty=1e-8)
    assert got.converged
    assert torch.equal(got.predict(x), y)


def test_the_penalty_is_chosen_on_the_training_set_alone():
    x, y = clusters(600, 4, 10, spread=4)
    made = linear_predict(x[:400], y[:400], x[400:])
    assert made.penalty == max(made.validation, key=lambda p: made.validation[p])
    other = linear_predict(x[:400], y[:400], torch.randn(5, 10).double())
    assert made.validation == other.validation
    assert other.labels.shape == (5,)
    assert linear_predict(x[:400], y[:400], x, seed=1).validation != made.validation


def test_a_single_penalty_is_scikit_learn_on_standardised_features():
    x, y = clusters(600, 4, 10, spread=3)
    train, test = x[:400], x[400:]
    scaled = (train - train.mean(0)) / train.std(0, correction=0)
    asked = (test - train.mean(0)) / train.std(0, correction=0)
    model = LogisticRegression(C=1 / (1e-2 * 400), tol=1e-8, max_iter=5000)
    expected = model.fit(scaled.numpy(), y[:400].numpy()).predict(asked.numpy())
    made = linear_predict(train, y[:400], test, penalties=(1e-2,))
    assert (made.labels.numpy() == expected).all()
    assert made.validation == {}
    assert not made.at_edge
    accuracy = linear_probe(train, y[:400], test, y[400:], penalties=(1e-2,))
    assert accuracy.value == pytest.approx((expected == y[400:].numpy()).mean())
    assert accuracy.low < accuracy.value < accuracy.high


def test_more_features_than_rows_gives_the_fit_of_all_features():
    x, y = clusters(90, 3, 150, spread=3)
    made = linear_predict(x[:60], y[:60], x[60:], penalties=(1e-2,), standardise=False)
    whole = fit_logistic(x[:60], y[:60], penalty=1e-2, tolerance=1e-13)
    assert torch.equal(made.labels, whole.predict(x[60:]))
    torch.testing.assert_close(
        made.model.weight.square().sum(), whole.weight.square().sum(), rtol=0.02, atol=0
    )


def test_arrays_do_as_well_as_tensors_and_scale_does_not_matter():
    x, y = clusters(300, 3, 5)
    parts = (x[:200], y[:200], x[200:], y[200:])
    got = linear_probe(*(part.numpy() for part in parts))
    assert got == linear_probe(*parts)
    scale = torch.logspace(-3, 3, 5, dtype=torch.float64)
    assert got.value == pytest.approx(linear_probe(x[:200] * scale, y[:200], x[200:] * scale, y[200:]).value)


def test_unlabelled_rows_are_left_out_on_both_sides():
    x, y = clusters(300, 3, 6)
    hidden = y.clone()
    hidden[::4] = -1
    train, test = hidden[:200] >= 0, hidden[200:] >= 0
    got = linear_probe(x[:200], hidden[:200], x[200:], hidden[200:])
    assert got == linear_probe(x[:200][train], y[:200][train], x[200:][test], y[200:][test])


def test_one_class_is_always_predicted():
    x = torch.randn(30, 4)
    made = linear_predict(x, torch.full((30,), 5), x)
    assert (made.labels == 5).all()
    assert linear_probe(x, torch.full((30,), 5), x, torch.arange(30) % 2 + 4).value == 0.5


def test_classes_absent_from_either_side():
    x = torch.eye(3).repeat(10, 1) + 0.01 * torch.randn(30, 3)
    y = torch.arange(3).repeat(10)
    kept = y < 2
    assert linear_probe(x[kept], y[kept] * 7, x, y * 7).value == pytest.approx(2 / 3)
    assert linear_probe(x, y, x[kept], y[kept]).value == 1.0


def test_rows_too_few_to_hold_any_out_get_the_middle_penalty():
    x = torch.eye(3)
    made = linear_predict(x, torch.arange(3), x, penalties=(1.0, 1e-1, 1e-2))
    assert made.penalty == 1e-1
    assert made.validation == {}
    assert made.labels.tolist() == [0, 1, 2]


def test_constant_and_duplicated_features_do_no_harm():
    x, y = clusters(200, 3, 4)
    wide = torch.cat([x, x, torch.full((200, 2), 1e6, dtype=torch.float64)], 1)
    assert torch.equal(
        linear_predict(wide, y, wide, penalties=(2e-6,)).labels,
        linear_predict(x, y, x, penalties=(1e-6,)).labels,
    )
    assert linear_probe(
        torch.ones(100, 3), torch.arange(100) % 4, torch.ones(40, 3), torch.arange(40) % 4
    ).value == pytest.approx(0.25)


def test_features_on_a_line_can_be_fitted():
    """What a collapsed encoder leaves: in single precision their covariance has eigenvalues below zero."""
    torch.manual_seed(0)
    along = torch.randn(6000, 1)
    x = along @ torch.randn(1, 256)
    x = (x - x.mean(0)) / x.std(0)
    y = (along[:, 0] > 0).long()
    model = fit_logistic(x, y, penalty=1e-8)
    assert (model.predict(x) == y).float().mean() > 0.99


def test_no_labelled_test_row_leaves_nothing_known():
    got = linear_probe(torch.randn(9, 3), torch.arange(9) % 3, torch.randn(4, 3), torch.full((4,), -1))
    assert np.isnan(got.value)
    assert (got.low, got.high) == (0.0, 1.0)


def test_nothing_is_drawn_from_the_global_generator():
    x, y = clusters(100, 3, 4)
    state = torch.get_rng_state()
    linear_predict(x, y, x)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_y": torch.full((5,), -1)}, "no labelled row"),
        ({"train_y": torch.zeros(4, dtype=torch.long)}, "as many of each"),
        ({"train_y": torch.zeros(5)}, "expected integers"),
        ({"penalties": ()}, "expected positive"),
        ({"penalties": (1.0, 0.0)}, "expected positive"),
        ({"test_x": torch.ones(2, 4)}, "as many in both"),
        ({"train_x": torch.full((5, 3), float("nan"))}, "non-finite"),
    ],
)
def test_wrong_arguments_are_refused(change, says):
    arguments = {"train_x": torch.eye(5)[:, :3], "train_y": torch.arange(5), "test_x": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=says):
        linear_predict(**(arguments | change))


@pytest.mark.parametrize("steps", [1, 5, 17])  # 17: the oldest have been dropped
def test_the_compact_form_is_the_inverse_that_its_updates_make(steps):
    """Against the definition: H <- (1 - s y'/s'y) H (1 - y s'/s'y) + s s'/s'y over the last twelve steps."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian, diagonal = (
        a @ a.T + torch.eye(6),
        torch.rand(6, 1, generator=generator, dtype=torch.float64) + 0.5,
    )

    class Known:
        def solve(self, g: torch.Tensor) -> torch.Tensor:
            return g / diagonal

    gradient = torch.randn(6, 1, generator=generator, dtype=torch.float64)
    memory, pairs = Memory(gradient, Known(), torch.float64), []
    for _ in range(steps):
        step = torch.randn(6, 1, generator=generator, dtype=torch.float64)
        pairs.append((step, hessian @ step))
        gradient = gradient + pairs[-1][1]
        memory.update(step, gradient)
    s, y = pairs[-1]
    inverse = torch.diag(1 / diagonal[:, 0]) * ((s * y).sum() / (y * y / diagonal).sum())
    for s, y in pairs[-12:]:
        left = torch.eye(6).double() - s @ y.T / (s * y).sum()
        inverse = left @ inverse @ left.T + s @ s.T / (s * y).sum()
    torch.testing.assert_close(memory.direction(), -inverse @ gradient, rtol=1e-8, atol=1e-8)


def test_the_stated_tolerance_bounds_the_distance_from_the_minimum():
    x, y = clusters(400, 5, 60)
    for penalty in (1e-1, 1e-3, 1e-5):
        exact = fit_logistic(x, y, penalty=penalty, tolerance=1e-13, max_iterations=3000)
        low = objective(x, y, exact.weight, exact.bias, penalty)
        for tolerance in (1e-3, 1e-5, 1e-7):
            got = fit_logistic(x, y, penalty=penalty, tolerance=tolerance)
            assert got.converged
            assert objective(x, y, got.weight, got.bias, penalty) - low < 1.5 * tolerance


def test_certain_classes_cost_no_denormal_numbers():
    """Probabilities of e^-90 are denormal in float32, and products with them a hundred times as slow."""
    x, y = clusters(300, 3, 5)
    z = 90 * torch.nn.functional.one_hot(y, 3).float()
    seen = []

    class Watched(Rows):
        def blocks(self) -> Any:
            for here, rows in super().blocks():
                yield here, _Kept(rows)

    class _Kept:
        def __init__(self, rows):
            self.rows = rows

        def __rmatmul__(self, other):
            seen.append(other)
            return other @ self.rows

    v = torch.zeros(6, 3, dtype=torch.float64)
    _gradient(Watched(x.float()), z, y, v, 1e-3)
    assert seen
    assert not ((seen[0] != 0) & (seen[0].abs() < torch.finfo(torch.float32).tiny)).any()
