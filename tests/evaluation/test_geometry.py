"""Geometry: known values at uniformity and collapse, intervals that hold what they say, exact z-scores."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from isosphere.discrepancies import KL, MMD, SIGReg
from isosphere.evaluation import geometry
from isosphere.kernels import HeatKernel
from isosphere.statistics import (
    alignment,
    covariance_spectrum,
    effective_rank,
    mean_cosine,
    rankme,
    uniformity,
)


def sample(n, d):
    """Neither uniform nor centred: every statistic has something to estimate."""
    return torch.randn(n, d) * torch.linspace(0.3, 1.5, d) + 0.2


def test_values_are_those_of_the_statistics():
    z, views = sample(150, 7), torch.randn(3, 40, 7)
    x = functional.normalize(z, dim=1)
    got = geometry(z * 5, views=views)
    spectrum = covariance_spectrum(x)
    assert got["uniformity"].value == pytest.approx(uniformity(x).item(), abs=1e-5)
    assert got["mean_cosine"].value == pytest.approx(mean_cosine(x).item(), abs=1e-6)
    assert got["effective_rank"].value == pytest.approx(effective_rank(x).item(), rel=1e-6)
    assert got["rankme"].value == pytest.approx(rankme(x).item(), rel=1e-6)
    assert got["top_eigenvalue_share"].value == pytest.approx((spectrum[0] / spectrum.sum()).item(), rel=1e-5)
    assert got["alignment"].value == pytest.approx(
        alignment(functional.normalize(views, dim=2)).item(), rel=1e-5
    )


@pytest.mark.parametrize(("n", "d"), [(400, 8), (60, 40)])
def test_intervals_are_as_wide_as_the_figures_scatter(n, d):
    repeats = [geometry(sample(n, d)) for _ in range(60)]
    hubs = ("hub_skewness", "antihubs")  # counts of an order, for which jackknives are wide, as documented
    for name in repeats[0]:
        scatter = np.std([r[name].value for r in repeats])
        if scatter == 0:
            continue
        claimed = np.mean([r[name].high - r[name].low for r in repeats]) / (2 * 1.96)
        # Jackknives err on the wide side where n is not many times d.
        lowest = 0.6 if name == "local_dimension" else 0.75  # as documented
        highest = 2.8 if name in hubs else 1.4 if n > 10 * d else 2.2
        assert lowest < claimed / scatter < highest, name


def test_collapse_is_told_plainly():
    got = geometry(torch.full((50, 6), 0.2))
    assert got["uniformity"].value == pytest.approx(0.0, abs=1e-6)
    assert got["mean_cosine"].value == pytest.approx(1.0)
    assert got["effective_rank"].value == 0.0
    assert got["rankme"].value == pytest.approx(1.0, abs=1e-4)
    assert math.isnan(got["top_eigenvalue_share"].value)


def test_zscores_of_uniform_points_are_within_their_interval_and_of_others_far_away():
    d = 6
    tests = {"mmd": MMD(HeatKernel(d), group=False), "kl": KL(HeatKernel(d), group=False)}
    uniform = functional.normalize(torch.randn(300, d), dim=1)
    got = geometry(uniform, discrepancies=tests)
    for name, discrepancy in tests.items():
        estimate = got[f"zscore/{name}"]
        assert estimate.value == pytest.approx(discrepancy.zscore(uniform).item(), rel=1e-4)
        assert abs(estimate.value) < 4
        assert estimate.high - estimate.low >= 2 * 1.95  # chance alone is one standard deviation
    assert geometry(sample(300, d) + 1, discrepancies=tests)["zscore/mmd"].low > 10


def test_a_euclidean_statistic_gets_the_rows_as_they_came():
    discrepancy = SIGReg(4, num_slices=64, group=False)
    z = torch.randn(200, 4)
    near = geometry(z, discrepancies={"sigreg": discrepancy})["zscore/sigreg"].value
    far = geometry(3 * z, discrepancies={"sigreg": discrepancy})["zscore/sigreg"].value
    assert near == pytest.approx(discrepancy.zscore(z).item(), rel=1e-4)
    assert far > near + 10


def test_nothing_random_is_consumed_and_the_answer_repeats():
    z, views = sample(100, 5), torch.randn(2, 30, 5)
    before = torch.get_rng_state()
    first = geometry(z, views=views)
    assert torch.equal(before, torch.get_rng_state())
    assert geometry(z.numpy(), views=views.numpy()) == first


@pytest.mark.parametrize(
    ("z", "says"),
    [
        (torch.ones(19, 3), "at least 20"),
        (torch.ones(3, 30, 3), "\\(n, d\\)"),
        (torch.full((20, 2), math.nan), "non-finite"),
    ],
)
def test_wrong_arguments_are_refused(z, says):
    with pytest.raises(ValueError, match=says):
        geometry(z)


def test_alignment_needs_two_views():
    with pytest.raises(ValueError, match="at least two views"):
        geometry(sample(30, 3), views=torch.ones(1, 30, 3))


def test_uniform_points_have_no_hubs_and_lie_around_each_other():
    got = geometry(torch.randn(600, 16))
    assert got["off_centre"].low < 0 < got["off_centre"].high
    assert got["anisotropy"].low < 1 < got["anisotropy"].high
    assert got["hub_skewness"].value < 0.6
    leaning = geometry(torch.randn(600, 16) + torch.eye(16)[0] * 6)
    assert leaning["off_centre"].low > got["off_centre"].high
