"""The risk among the most certain rows, by brute force and at its ends."""

import itertools

import pytest
import torch

from isosphere.evaluation import risk_coverage, selective_risk


def test_curve_is_the_mean_over_all_orders_of_ties():
    errors = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.5, 1.0])
    unsure = torch.tensor([2, 1, 1, 3, 2, 1])
    orders = [
        p
        for p in itertools.permutations(range(6))
        if all(unsure[a] <= unsure[b] for a, b in itertools.pairwise(p))
    ]
    curves = [errors[list(p)].double().cumsum(0) / torch.arange(1, 7) for p in orders]
    assert len(orders) == 12
    torch.testing.assert_close(risk_coverage(errors, unsure), torch.stack(curves).mean(0))


def test_ends_of_the_scale():
    generator = torch.Generator().manual_seed(0)
    errors = (torch.rand(2000, generator=generator) < 0.3).double()
    best = selective_risk(errors, errors, resamples=20)
    worst = selective_risk(errors, -errors, resamples=20)
    chance = selective_risk(errors, torch.rand(2000, generator=generator), resamples=200)
    constant = selective_risk(errors, torch.zeros(2000), resamples=20)
    assert best["gain"].value == pytest.approx(1)
    assert worst["gain"].value < -1
    assert abs(constant["gain"].value) < 1e-9
    assert constant["aurc"].value == pytest.approx(errors.mean().item())
    assert chance["gain"].low < 0 < chance["gain"].high
    assert best["risk"].value == pytest.approx(errors.mean().item())
    # of a share e of errors, in their order: e + (1 - e) log(1 - e) in the limit of many rows
    e = errors.mean()
    assert best["aurc"].value == pytest.approx((e + (1 - e) * (1 - e).log()).item(), abs=2e-3)


def test_all_right_or_all_wrong_has_no_gain():
    found = selective_risk(torch.ones(10), torch.rand(10), resamples=5)
    assert found["risk"].value == 1
    assert found["gain"].value != found["gain"].value


@pytest.mark.parametrize(
    "bad",
    [
        (torch.ones(3), torch.ones(4)),
        (torch.ones(0), torch.ones(0)),
        (torch.ones(2), torch.tensor([1.0, torch.nan])),
    ],
)
def test_what_is_no_pair_of_columns_is_refused(bad):
    with pytest.raises(ValueError, match="errors, uncertainty"):
        risk_coverage(*bad)
