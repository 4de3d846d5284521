"""Class structure against scikit-learn and the definitions; degenerate classes say what is left to say."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_samples

from isosphere.statistics import class_angles, fisher_ratio, silhouettes


def classes(n=120, count=4, dim=6, spread=1.0):
    y = torch.arange(n) % count
    return 2 * torch.randn(count, dim)[y] + spread * torch.randn(n, dim) + 5, y


def test_fisher_ratio_is_the_double_loop():
    x, y = classes()
    mean, between, within = x.double().mean(0), 0.0, 0.0
    for c in range(4):
        own = x[y == c].double()
        between += len(own) * (own.mean(0) - mean).square().sum().item()
        within += (own - own.mean(0)).square().sum().item()
    assert fisher_ratio(x, y).item() == pytest.approx(between / within)
    assert fisher_ratio(3 * x + 1, y * 5).item() == pytest.approx(between / within, rel=1e-4)


def test_fisher_ratio_at_its_ends():
    x, y = classes(6000, count=6, dim=40)
    shuffled = y[torch.randperm(6000)]
    assert fisher_ratio(torch.randn(6000, 40), shuffled).item() == pytest.approx(5 / 5994, rel=0.3)
    assert fisher_ratio(x, torch.zeros_like(y)).item() == 0
    assert fisher_ratio(torch.eye(4)[y % 4], y % 4).item() == math.inf
    assert fisher_ratio(torch.full((50, 3), 0.3), torch.arange(50) % 2).isnan()
    assert fisher_ratio(x, torch.full_like(y, -1)).isnan()


def test_a_simplex_has_its_angle_and_a_cross_its_own():
    simplex, y = torch.eye(5).repeat(3, 1) + 2, torch.arange(5).repeat(3)
    got = class_angles(simplex, y)
    assert got.diagonal().abs().max() < 1e-6
    off = got[~torch.eye(5, dtype=torch.bool)]
    assert off.tolist() == pytest.approx([math.degrees(math.acos(-1 / 4))] * 20)
    corners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1e-4]])
    plain = class_angles(corners, torch.arange(4), centred=False)
    assert plain[0].tolist() == pytest.approx([0, 90, 180, math.degrees(1e-4)], rel=1e-5)


def test_angles_are_those_of_the_means_and_a_mean_at_the_centre_has_none():
    x, y = classes()
    means = torch.stack([x[y == c].double().mean(0) for c in range(4)])
    gaps = means - means.mean(0)
    cosine = torch.nn.functional.cosine_similarity(gaps[:, None], gaps, dim=2).clamp(-1, 1)
    torch.testing.assert_close(class_angles(x, y), cosine.arccos().rad2deg(), atol=1e-4, rtol=0)
    assert class_angles(x, torch.zeros_like(y)).isnan().all()
    assert class_angles(x, torch.full_like(y, -1)).shape == (0, 0)


@pytest.mark.parametrize("n", [60, 1500])
def test_silhouettes_are_scikit_learns(n):
    x, y = classes(n)
    y[:1] = 9  # alone in its class
    np.testing.assert_allclose(
        silhouettes(x, y), silhouette_samples(x.double().numpy(), y.numpy()), atol=1e-8
    )


def test_silhouettes_of_duplicates_one_class_and_the_unlabelled():
    y = torch.arange(40) % 2
    assert (silhouettes(torch.full((40, 3), 0.3), y) == 0).all()
    assert (silhouettes(torch.eye(3)[y], y) == 1).all()
    assert silhouettes(torch.randn(40, 3), torch.zeros(40, dtype=torch.long)).isnan().all()
    x, labels = classes()
    hidden = torch.where(torch.arange(120) % 3 == 0, -1, labels)
    torch.testing.assert_close(silhouettes(x, hidden), silhouettes(x[hidden >= 0], hidden[hidden >= 0]))


@pytest.mark.parametrize("statistic", [fisher_ratio, class_angles, silhouettes])
def test_other_shapes_are_refused(statistic):
    with pytest.raises(ValueError, match="expected"):
        statistic(torch.zeros(5, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="integers"):
        statistic(torch.zeros(5, 2), torch.zeros(5))
