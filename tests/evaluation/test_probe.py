"""Probes that are kept, folds that leave groups together, and intervals that know of groups."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from isosphere.evaluation import (
    bootstrap,
    fit_probe,
    grouped_folds,
    held_out_labels,
    joined_groups,
    linear_predict,
    paired_difference,
    wilson,
)


def data(n=300, classes=3, dim=12, spread=2.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = torch.randn(classes, dim, generator=g)
    scales = torch.logspace(-1, 2, dim)
    return (centres[y] + spread * torch.randn(n, dim, generator=g)) * scales + 5, y


def test_folds_leave_groups_whole_and_spread_classes():
    y = torch.arange(400) % 4
    groups = torch.arange(400) // 8
    folds = grouped_folds(y, groups)
    for group in groups.unique():
        assert len(folds[groups == group].unique()) == 1
    for fold in range(5):
        counts = torch.bincount(y[folds == fold], minlength=4)
        assert counts.min() == counts.max() == 20
    alone = grouped_folds(y, torch.arange(400), seed=3)
    assert not torch.equal(alone, grouped_folds(y, torch.arange(400), seed=4))
    for label in range(4):
        assert torch.bincount(alone[y == label]).tolist() == [20] * 5
    assert len(grouped_folds(y, torch.zeros(400).long()).unique()) == 1
    with pytest.raises(ValueError, match="folds"):
        grouped_folds(y, groups, 1)


def test_joined_groups_are_connected_components():
    a = torch.tensor([0, 0, 1, 1, -1, -1, 2])
    b = torch.tensor([-1, 5, 5, -1, 7, 7, -1])
    assert joined_groups(a, b).tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert joined_groups(a).tolist() == [0, 0, 1, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="alike"):
        joined_groups(a, b[:3])


@pytest.mark.parametrize(("dim", "near"), [(12, 2e-3), (400, 5e-2)])  # wide: the minimum is flat
def test_the_kept_weights_say_what_scikit_learn_says(dim, near):
    x, y = data(dim=dim)
    probe = fit_probe(x, y, ["a", "b", "c"])
    scaler = StandardScaler().fit(x.double().numpy())
    theirs = LogisticRegression(C=1 / (probe.penalty * len(x)), tol=1e-8, max_iter=5000)
    theirs.fit(scaler.transform(x.double().numpy()), y.numpy())
    new, _ = data(seed=1, dim=dim)
    expected = theirs.predict_proba(scaler.transform(new.double().numpy()))
    np.testing.assert_allclose(probe.probabilities(new), expected, atol=near)
    assert probe.class_names == ("a", "b", "c")
    made = linear_predict(x, y, new)
    assert made.penalty == probe.penalty
    assert (made.labels == probe.predict(new)).double().mean() >= 0.98


def test_classes_without_rows_are_no_classes_and_unlabelled_rows_are_left_out():
    x, y = data()
    y[y == 1] = -1
    probe = fit_probe(x, y, ["a", "b", "c"])
    assert probe.class_names == ("a", "c")
    assert probe.weight.shape == (12, 2)
    with pytest.raises(ValueError, match="features"):
        probe.predict(x[:, :3])
    with pytest.raises(ValueError, match="names"):
        fit_probe(x, y, ["a"])
    found = held_out_labels(x, y)
    assert (found[y < 0] == -1).all()
    assert set(found[y >= 0].tolist()) == {0, 2}


def test_held_out_rows_are_not_among_those_that_were_fitted():
    """Copies of rows with random labels are known by heart, unless they stay together."""
    g = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(60, 40, generator=g), torch.randint(2, (60,), generator=g)
    x, y, of = rows.repeat(4, 1), labels.repeat(4), torch.arange(60).repeat(4)
    apart = (held_out_labels(x, y) == y).double().mean()
    together = (held_out_labels(x, y, of) == y).double().mean()
    assert apart > 0.85
    assert 0.3 < together < 0.7
    with pytest.raises(ValueError, match="got one"):
        held_out_labels(x, y, torch.zeros(240).long())


def test_intervals_of_groups_are_those_of_so_many_independent_values():
    g = np.random.default_rng(0)
    values = g.integers(0, 2, 50).astype(float)
    once = bootstrap(values, unit_interval=True)
    copied = bootstrap(np.repeat(values, 20), groups=np.repeat(np.arange(50), 20), unit_interval=True)
    assert copied.value == pytest.approx(once.value)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.1)
    assert copied.high - copied.low > 3 * (
        bootstrap(np.repeat(values, 20)).high - bootstrap(np.repeat(values, 20)).low
    )
    assert bootstrap(np.ones(40), groups=np.arange(40) // 10, unit_interval=True) == wilson(4, 4)
    same = paired_difference(np.ones(40), np.ones(40), groups=np.arange(40) // 10)
    assert same.high == pytest.approx(wilson(0, 4).high)
    with pytest.raises(ValueError, match="groups"):
        bootstrap(values, groups=np.arange(3))
    uneven = np.array([0] * 30 + list(range(1, 21)))
    assert bootstrap(values, groups=uneven).value == pytest.approx(values.mean())
