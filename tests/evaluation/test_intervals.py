"""Intervals: against scipy, in coverage, and at the edges."""

import random

import numpy as np
import pytest
import torch
from scipy import stats

from isosphere.evaluation import Estimate, bootstrap, paired_difference, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (517, 1000), (1, 100000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(successes, n, level):
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    got = wilson(successes, n, level=level)
    assert got.value == successes / n
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert got.low <= got.value <= got.high


def test_wilson_without_trials_knows_nothing():
    got = wilson(0, 0)
    assert np.isnan(got.value)
    assert (got.low, got.high) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 10), (11, 10), (1, 0)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="expected a number from 0"):
        wilson(successes, n)


def test_wilson_refuses_a_level_in_percent():
    with pytest.raises(ValueError, match=r"0\.95"):
        wilson(1, 2, level=95)


def test_bootstrap_of_the_mean_is_the_normal_interval_for_many_rows():
    values = np.random.default_rng(1).gamma(2.0, size=4000)
    got = bootstrap(values)
    half = 1.96 * values.std() / len(values) ** 0.5
    assert got.value == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert got.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_bootstrap_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        got = bootstrap(generator.exponential(size=60), seed=trial, resamples=300)
        hits += got.low <= 1.0 <= got.high
    assert 0.88 <= hits / 300 <= 0.98  # the percentile interval of a skewed mean of 60 is a little short


def test_bootstrap_of_another_statistic_and_of_rows():
    rows = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])

    def correlation(sample: np.ndarray) -> float:
        return float(np.corrcoef(sample.T)[0, 1])

    got = bootstrap(rows, correlation, resamples=400)
    assert got.value == pytest.approx(correlation(rows))
    assert got.low < 0.8 < got.high
    assert got.high - got.low == pytest.approx(2 * 1.96 * (1 - 0.8**2) / 500**0.5, rel=0.3)


def test_bootstrap_depends_on_its_seed_alone_and_leaves_the_global_generators():
    values = np.arange(50.0)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    first = bootstrap(values, seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(np.random.get_state())  # noqa: NPY002
    assert before[2] == random.getstate()
    torch.manual_seed(17)
    np.random.seed(17)  # noqa: NPY002
    assert bootstrap(values, seed=3) == first
    assert bootstrap(values, seed=4) != first


def test_bootstrap_never_claims_certainty_in_the_unit_interval():
    assert bootstrap(np.ones(100), unit_interval=True) == wilson(100, 100)
    assert bootstrap(np.ones(100)) == Estimate(1.0, 1.0, 1.0)
    assert bootstrap(np.empty(0), unit_interval=True).high == 1.0
    with pytest.raises(ValueError, match="0 to 1"):
        bootstrap(np.array([0.5, 1.5]), unit_interval=True)


@pytest.mark.parametrize(
    ("values", "says"),
    [(np.float64(1), "single number"), (np.array([np.nan]), "non-finite"), (np.ones((3, 2)), "statistic=")],
)
def test_bootstrap_refuses(values, says):
    with pytest.raises(ValueError, match=says):
        bootstrap(values)


def test_paired_difference_is_narrower_than_two_intervals():
    generator = np.random.default_rng(0)
    hardness = generator.uniform(size=800)
    noise = generator.uniform(-0.02, 0.02, size=800)
    first, second = torch.from_numpy(hardness + 0.01), torch.from_numpy(hardness + noise)
    got = paired_difference(first, second)
    assert got.value == pytest.approx(float((first - second).mean()))
    assert got.excludes(0.0)
    assert bootstrap(first).low < bootstrap(second).high  # apart, nothing could be said


def test_paired_difference_of_one_encoder_with_itself_is_as_certain_as_there_are_queries():
    values = torch.rand(30)
    for count in (3, 30):
        bound = wilson(0, count).high
        few = paired_difference(values[:count], values[:count])
        assert few == Estimate(0.0, -bound, bound)
    assert not paired_difference(torch.ones(3), torch.zeros(3)).excludes(0.0)
    assert paired_difference(torch.ones(30), torch.zeros(30)).excludes(0.0)
    assert paired_difference(torch.ones(30), torch.zeros(30)).high == 1.0
    with pytest.raises(ValueError, match="one \\(n,\\) for both"):
        paired_difference(values, values[1:])


def test_an_estimate_prints_and_becomes_json():
    estimate = Estimate(0.5, 0.4, 0.6)
    assert str(estimate) == "0.5 [0.4, 0.6]"
    assert estimate.as_dict() == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert not estimate.excludes(0.45)
