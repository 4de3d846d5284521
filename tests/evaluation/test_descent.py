"""The probe by SGD and AdamW against torch's optimisers, and its choices against a look at the test set."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from isosphere.data import permutation
from isosphere.evaluation import linear_predict, linear_probe
from isosphere.evaluation._descent import fit_by_descent


def clusters(n, classes, dim, spread=1.5):
    labels = torch.arange(n) % classes
    return torch.randn(classes, dim)[labels] + spread * torch.randn(n, dim), labels


def by_torch(x, y, solver, rate, epochs, decay, batch_size, seed):
    layer = nn.Linear(x.shape[1], int(y.max()) + 1, dtype=x.dtype)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    groups = [{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias], "weight_decay": 0}]
    made = torch.optim.SGD(groups, rate, momentum=0.9) if solver == "sgd" else torch.optim.AdamW(groups, rate)
    total = epochs * math.ceil(len(x) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda t: 0.5 * (1 + math.cos(math.pi * t / total)))
    for epoch in range(epochs):
        for rows in permutation(len(x), seed, epoch).split(batch_size):
            made.zero_grad()
            functional.cross_entropy(layer(x[rows]), y[rows]).backward()
            made.step()
            schedule.step()
    return layer.weight.T.detach(), layer.bias.detach()


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_rate_makes_the_steps_of_torch(solver, decay):
    x, y = clusters(70, 4, 6)
    rates = (0.3, 0.01)
    fits = fit_by_descent(
        x.double(), y, solver=solver, rates=rates, epochs=3, decay=decay, batch_size=16, seed=5
    )
    for rate, fit in zip(rates, fits, strict=True):
        weight, bias = by_torch(x.double(), y, solver, rate, 3, decay, 16, 5)
        torch.testing.assert_close(fit.weight, weight)
        torch.testing.assert_close(fit.bias, bias)
        assert (fit.iterations, fit.penalty, fit.converged) == (15, decay, True)


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_it_is_about_as_accurate_as_the_minimum(solver):
    x, y = clusters(900, 5, 20, spread=3)
    parts = (x[:600], y[:600], x[600:], y[600:])
    best, got = linear_probe(*parts), linear_probe(*parts, solver=solver, epochs=(5, 20))
    assert abs(best.value - got.value) < 0.04
    assert got.low < got.value < got.high
    again = linear_probe(*(part.numpy() for part in parts), solver=solver, epochs=(5, 20))
    assert again == got


def test_rate_and_epochs_are_chosen_on_the_training_set_alone():
    x, y = clusters(400, 4, 10, spread=4)
    options = {"solver": "sgd", "rates": (0.3, 0.03, 0.003), "epochs": (2, 6)}
    made = linear_predict(x[:300], y[:300], x[300:], **options)
    assert set(made.validation) == {(r, e) for r in (0.3, 0.03, 0.003) for e in (2, 6)}
    assert made.validation[made.rate, made.epochs] == max(made.validation.values())
    assert made.at_edge == (made.rate != 0.03)
    other = linear_predict(x[:300], y[:300], 100 * torch.randn(5, 10), **options)
    assert other.validation == made.validation
    assert (other.rate, other.epochs) == (made.rate, made.epochs)
    single = linear_predict(x[:300], y[:300], x[300:], solver="sgd", rates=(0.1,), epochs=(3,))
    assert (single.validation, single.at_edge, single.rate, single.epochs) == ({}, False, 0.1, 3)


def test_a_rate_that_diverges_is_not_chosen():
    x, y = clusters(200, 3, 5)
    fits = fit_by_descent(x, y, solver="sgd", rates=(float("inf"), 0.1), epochs=2)
    assert [fit.converged for fit in fits] == [False, True]
    made = linear_predict(x, y, x, solver="sgd", rates=(float("inf"), 0.1), epochs=(2,))
    assert made.rate == 0.1
    assert made.converged


def test_degenerate_inputs():
    x = torch.randn(30, 4)
    for solver in ("sgd", "adamw"):
        assert (linear_predict(x, torch.full((30,), 5), x, solver=solver, epochs=(1,)).labels == 5).all()
        few = linear_predict(x[:3], torch.tensor([0, 7, 2]), x, solver=solver, epochs=(1, 2, 3))
        assert (few.validation, few.epochs) == ({}, 2)
        assert set(few.labels.tolist()) <= {0, 2, 7}
        wide = torch.randn(10, 40)
        assert linear_probe(wide, torch.arange(10) % 2, wide, torch.arange(10) % 2, solver=solver).value == 1


def test_nothing_is_drawn_from_the_global_generator():
    x, y = clusters(60, 3, 4)
    state = torch.get_rng_state()
    linear_predict(x, y, x, solver="adamw", epochs=(1, 2))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"solver": "adam"}, "solver: got 'adam'"),
        ({"rates": ()}, "positive learning rates"),
        ({"rates": (0.1, 0.0)}, "positive learning rates"),
        ({"epochs": ()}, "epochs"),
        ({"epochs": (0,)}, "epochs"),
    ],
)
def test_wrong_arguments_are_refused(change, says):
    x = torch.eye(5)
    with pytest.raises(ValueError, match=says):
        linear_predict(x, torch.arange(5), x, **({"solver": "sgd"} | change))
    with pytest.raises(ValueError, match="epochs=0"):
        fit_by_descent(x, torch.arange(5), solver="sgd", rates=(1.0,), epochs=0)
    with pytest.raises(ValueError, match="labels from 0"):
        fit_by_descent(x, torch.full((5,), -1), solver="sgd", rates=(1.0,), epochs=1)
