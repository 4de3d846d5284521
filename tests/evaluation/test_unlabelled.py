"""Figures without labels against their parts, and the rank correlation against scipy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from isosphere.evaluation import geometry, instance_retrieval, spearman, unlabelled
from isosphere.evaluation._unlabelled import HIGHER_IS_BETTER, rank_interval, ranks


def test_the_figures_are_those_of_their_own_functions():
    z = torch.randn(60, 8)
    views = z + 0.5 * torch.randn(2, 60, 8)
    got = unlabelled(z, views, batch=20)
    assert list(got) == list(HIGHER_IS_BETTER)
    whole = geometry(z, views=views)
    assert all(got[name] == whole[name] for name in ("rankme", "lidar", "uniformity", "alignment"))
    assert got["recall@1"] == instance_retrieval(views[0], views[1], batch=20, k=(1,))["recall@1"]
    assert unlabelled(z.numpy(), views.numpy(), batch=500)["recall@1"].value <= got["recall@1"].value + 0.2
    with pytest.raises(ValueError, match="expected"):
        unlabelled(z, views[0])
    with pytest.raises(ValueError, match="expected"):
        unlabelled(z, views[:, :30])


def test_a_good_encoder_comes_before_noise_and_collapse_by_every_figure():
    z = torch.randn(60, 8)
    good = unlabelled(z, z + 0.1 * torch.randn(2, 60, 8))
    noise = unlabelled(z, torch.randn(2, 60, 8))
    one = torch.randn(1, 8) + 0.01 * torch.randn(60, 8)
    collapsed = unlabelled(one, one + 0.01 * torch.randn(2, 60, 8))
    for name in ("recall@1", "alignment"):
        sign = 1 if HIGHER_IS_BETTER[name] else -1
        assert sign * good[name].value > sign * noise[name].value
    for name in ("recall@1", "rankme", "uniformity"):
        sign = 1 if HIGHER_IS_BETTER[name] else -1
        assert sign * good[name].value > sign * collapsed[name].value


def test_places_share_the_mean_among_equals_and_skip_the_unknown():
    assert ranks([3.0, 1.0, 3.0, 5.0]) == [2.5, 4.0, 2.5, 1.0]
    assert ranks([3.0, 1.0], higher=False) == [2.0, 1.0]
    got = ranks([2.0, math.nan, 1.0])
    assert got[0::2] == [1.0, 2.0]
    assert math.isnan(got[1])
    x = np.random.default_rng(0).integers(0, 6, 30)
    assert ranks(x.tolist(), higher=False) == stats.rankdata(x).tolist()


@pytest.mark.parametrize("n", [2, 5, 7])
def test_the_correlation_and_its_exact_p_value(n):
    rng = np.random.default_rng(n)
    a, b = rng.integers(0, 5, n).astype(float), rng.normal(size=n)
    a[0] = 9
    got = spearman(a.tolist(), b.tolist())
    assert got.count == n
    assert got.value == pytest.approx(stats.spearmanr(a, b).statistic)
    orders = [
        stats.spearmanr(a, b[list(o)]).statistic
        for o in itertools.islice(itertools.permutations(range(n)), 120)
    ]
    if n <= 5:
        assert got.pvalue == pytest.approx(np.mean(np.abs(orders) >= abs(got.value) - 1e-9))
    assert 0 < got.pvalue <= 1


def test_the_drawn_p_value_is_near_scipys():
    rng = np.random.default_rng(3)
    a = rng.normal(size=20)
    b = a + 1.5 * rng.normal(size=20)
    got, expected = spearman(a.tolist(), b.tolist()), stats.spearmanr(a, b)
    assert got.value == pytest.approx(expected.statistic)
    assert got.pvalue == pytest.approx(expected.pvalue, abs=0.02)


def test_degenerate_correlations():
    assert spearman([1, 2, 3], [1, 2, 3]).value == pytest.approx(1)
    assert spearman([1, 2, 3], [1, 2, 3]).pvalue == pytest.approx(1 / 3)
    assert spearman([1, 2, math.nan], [3, 1, 2]).count == 2
    for a, b in (([1, 1, 1], [1, 2, 3]), ([1.0], [2.0]), ([], [])):
        assert math.isnan(spearman(a, b).value)
    with pytest.raises(ValueError, match="as many of each"):
        spearman([1, 2], [1])


def test_the_interval_of_a_rank_correlation_covers_the_truth_as_often_as_it_says():
    """Of normal pairs with correlation r, Spearman's is 6/pi arcsin(r/2)."""
    rng = np.random.default_rng(0)
    for r, n in ((0.0, 10), (0.5, 10), (0.8, 30)):
        truth = 6 / math.pi * math.asin(r / 2)
        x = rng.standard_normal((1500, n))
        y = r * x + math.sqrt(1 - r**2) * rng.standard_normal((1500, n))
        places = [v.argsort(1).argsort(1) - (n - 1) / 2 for v in (x, y)]
        found = (places[0] * places[1]).sum(1) / (places[0] ** 2).sum(1)
        covered = [low <= truth <= high for low, high in (rank_interval(float(v), n) for v in found)]
        assert 0.93 < np.mean(covered) < 0.985


def test_intervals_of_perfect_orders_have_a_length_and_short_ones_say_nothing():
    low, high = rank_interval(1.0, 6)
    assert 0.3 < low < 0.9
    assert high == 1.0
    assert rank_interval(-1.0, 6) == (-1.0, -low)
    assert rank_interval(0.5, 3) == (-1.0, 1.0)
    assert all(math.isnan(v) for v in rank_interval(math.nan, 9))
    found = spearman([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    assert (found.low, found.high) == rank_interval(found.value, 5)
    assert found.low < found.value < found.high
