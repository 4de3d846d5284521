"""Two samples: the statistic by brute force, and a test that holds its level and finds what differs."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from isosphere.discrepancies import two_sample_mmd
from isosphere.kernels import HeatKernel, VonMisesFisherKernel


def rows(n, d=8, seed=0, towards=0.0):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    z[:, 0] += towards
    return normalize(z, dim=1)


def test_the_statistic_is_that_of_three_means():
    x, y, kernel = rows(7), rows(5, seed=1, towards=1.0), HeatKernel(8)

    def phi(a, b):
        return float(kernel((a @ b).double()))

    within = [
        np.mean([phi(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)
    ]
    between = np.mean([phi(a, b) for a in x for b in y])
    found = two_sample_mmd(x, y, kernel=kernel)
    assert found.value == pytest.approx(sum(within) - 2 * between, abs=1e-6)
    assert found.counts == (7, 5)


def test_the_p_value_is_that_of_all_deals():
    """Of 3 and 3 rows there are 20 deals: drawn often enough, the shares are theirs."""
    from itertools import combinations

    x, y, kernel = rows(3, 4), rows(3, 4, seed=3, towards=2.0), VonMisesFisherKernel(4, 3.0)
    pooled = torch.cat([x, y])

    def value(chosen):
        rest = [i for i in range(6) if i not in chosen]
        return two_sample_mmd(pooled[list(chosen)], pooled[rest], kernel=kernel, permutations=1).value

    every = [value(chosen) for chosen in combinations(range(6), 3)]
    exact = np.mean([each >= value((0, 1, 2)) - 1e-9 for each in every])
    found = two_sample_mmd(x, y, kernel=kernel, permutations=20000)
    assert found.p_value == pytest.approx(exact, abs=0.015)


def test_the_level_is_held_and_a_shift_is_found():
    alike = [
        two_sample_mmd(rows(40, seed=s), rows(60, seed=1000 + s), permutations=99, seed=s).p_value
        for s in range(200)
    ]
    rejected = np.mean([p <= 0.05 for p in alike])
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert 0.4 < np.mean(alike) < 0.62  # uniform on 1/100 .. 1
    shifted = [
        two_sample_mmd(rows(40, seed=s), rows(60, seed=1000 + s, towards=1.0), permutations=99).p_value
        for s in range(20)
    ]
    assert np.mean([p <= 0.05 for p in shifted]) > 0.9


def test_the_mean_over_samples_of_one_law_is_zero():
    kernel = HeatKernel(8)
    values = [
        two_sample_mmd(rows(20, seed=s), rows(30, seed=500 + s), kernel=kernel, permutations=1).value
        for s in range(300)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300)


def test_the_median_is_the_bandwidth():
    x, y = rows(30), rows(20, seed=1)
    pooled = torch.cat([x, y]).double()
    median = torch.nn.functional.pdist(pooled).square().median()
    assert two_sample_mmd(x, y).kernel.concentration == pytest.approx(1 / float(median), rel=1e-5)


def test_of_larger_samples_so_many_rows_are_drawn_and_the_same_each_time():
    x, y = rows(300), rows(200, seed=1)
    first, again = (two_sample_mmd(x, y, most=50, permutations=19) for _ in range(2))
    assert first == again
    assert first.counts == (50, 50)
    assert two_sample_mmd(x, y, most=50, permutations=19, seed=1).value != first.value


def test_copies_alone_are_alike():
    same = torch.eye(4)[:1].expand(6, 4)
    found = two_sample_mmd(same, same)
    assert (found.value, found.p_value) == (0.0, 1.0)
    apart = two_sample_mmd(same, -same, kernel=VonMisesFisherKernel(4, 50.0))
    assert apart.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": rows(1)}, "at least 2 rows"),
        ({"y": rows(4, 5)}, "shapes"),
        ({"permutations": 0}, "permutations: got 0"),
        ({"x": rows(3).fill_(torch.nan)}, "non-finite"),
    ],
)
def test_what_cannot_be_compared_is_said(given, said):
    with pytest.raises(ValueError, match=said):
        two_sample_mmd(**{"x": rows(3), "y": rows(4), **given})
