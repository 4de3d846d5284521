"""Spectrum and ranks against numpy's covariance and singular values, and at their ends."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from isosphere.statistics import covariance_spectrum, effective_rank, participation_ratio, rankme


def rank_by_svd(x, epsilon=0.0):
    s = np.linalg.svd(x, compute_uv=False)
    p = s / s.sum() + epsilon
    return float(np.exp(-(p * np.log(p)).sum())) if epsilon else float(np.exp(entropy(p)))


@pytest.mark.parametrize(("n", "d"), [(50, 6), (6, 50), (9, 9)])
def test_equal_to_numpy_and_scipy(n, d):
    z = torch.randn(n, d, dtype=torch.float64) * torch.linspace(0.1, 2, d) + 1
    x = z.numpy()
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1][: min(n, d)]
    np.testing.assert_allclose(covariance_spectrum(z).numpy(), eigenvalues, atol=1e-12)
    # Beyond n - 1 directions there is rounding only, whose square root is not quite nothing.
    assert effective_rank(z).item() == pytest.approx(rank_by_svd(x - x.mean(0)), rel=1e-6)
    assert rankme(z).item() == pytest.approx(rank_by_svd(x, 1e-7), rel=1e-6)
    covariance = np.cov(x.T)
    assert participation_ratio(z).item() == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum())


def test_views_are_taken_one_by_one():
    z = torch.randn(2, 3, 20, 5)
    assert covariance_spectrum(z).shape == (2, 3, 5)
    for statistic in (effective_rank, rankme, participation_ratio):
        assert statistic(z).shape == (2, 3)
        assert statistic(z)[1, 2].item() == pytest.approx(statistic(z[1, 2]).item())


def test_a_line_has_rank_one_and_a_cross_polytope_all():
    line = torch.linspace(-1, 1, 30)[:, None] * torch.randn(1, 8) + 5
    cross = torch.cat([torch.eye(6), -torch.eye(6)])
    for statistic in (effective_rank, participation_ratio):
        assert statistic(line).item() == pytest.approx(1.0, abs=1e-4)
        assert statistic(cross).item() == pytest.approx(6.0)
    assert covariance_spectrum(cross).tolist() == pytest.approx([2 / 11] * 6)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_constant_sample_has_rank_zero_whatever_its_rounding(noise):
    z = torch.full((40, 7), 0.377) * (1 + noise * torch.randn(40, 7))
    assert effective_rank(z).item() == 0.0
    assert participation_ratio(z).item() == 0.0
    assert rankme(z).item() == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(torch.zeros(5, 3)).item() == 0.0


@pytest.mark.parametrize("statistic", [covariance_spectrum, effective_rank, participation_ratio, rankme])
def test_one_row_is_no_sample(statistic):
    with pytest.raises(ValueError, match="at least two rows"):
        statistic(torch.ones(1, 3))
