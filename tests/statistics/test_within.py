"""The share of variance within images: recovered where it is known, honest where the sample is small."""

import pytest
import torch

from isosphere.statistics import within_covariance, within_share
from isosphere.statistics._within import _ascending


def features(shares, views, n, scales=None):
    """(views, n, p): direction k has the given share of its variance within images."""
    shares = torch.as_tensor(shares)
    p = len(shares)
    images, noise = torch.randn(n, p), torch.randn(views, n, p)
    x = images * (1 - shares).sqrt() + noise * shares.sqrt()
    return x if scales is None else x * scales


def test_covariance_is_that_of_the_deviations_and_not_rounded_by_autocast():
    x = torch.randn(3, 40, 5)
    with torch.autocast("cpu", torch.bfloat16):
        got = within_covariance(x)
    apart = (x - x.mean(0)).double()
    written_out = sum(torch.outer(row, row) for row in apart.flatten(0, 1)) / (40 * 2)
    torch.testing.assert_close(got, written_out.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("views", [2, 4])
def test_known_shares_are_recovered(views):
    shares = torch.tensor([0.05, 0.3, 0.6, 0.95])
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    got = within_share(features(shares, views, 4000) @ rotation + 7, ridge=1e-3)
    torch.testing.assert_close(got, shares.double(), atol=0.03, rtol=0)


def test_a_linear_map_changes_nothing_but_for_the_ridge():
    x = features([0.1, 0.4, 0.7], 2, 3000)
    mixed = x @ torch.tensor([[1.0, 0.3, 0.0], [0.2, 2.0, 0.5], [0.0, -0.4, 0.7]])
    torch.testing.assert_close(
        within_share(mixed, ridge=1e-6), within_share(x, ridge=1e-6), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(("n", "p"), [(64, 256), (128, 256), (256, 512)])
def test_pure_noise_is_not_taken_for_signal_with_fewer_images_than_dimensions(n, p):
    """In the sample itself some direction is always perfectly invariant; on other images none is."""
    assert within_share(torch.randn(2, n, p))[0] > 0.8


def test_a_strong_direction_is_found_with_fewer_images_than_dimensions():
    p = 300
    shares, scales = torch.ones(p), torch.full((p,), 0.3)
    shares[0], scales[0] = 0.1, 3.0
    got = within_share(features(shares, 2, 120, scales))
    assert 0.05 < got[0].item() < 0.2
    assert got[1] > 0.7


def test_the_share_of_a_spectrum_like_a_networks_is_bounded_from_above():
    k = torch.arange(1.0, 513)
    got = within_share(features(0.05 + 0.9 * (1 - k**-0.5), 2, 256, 1 / k))
    assert 0.03 < got[0].item() < 0.1  # truly .05
    assert 1 <= int((got < 0.5).sum()) <= 5  # truly 3


def test_a_large_ridge_overlooks_faint_directions():
    x = features(torch.tensor([0.5, 0.001]), 2, 2000, torch.tensor([1.0, 1e-3]))
    assert within_share(x, ridge=1e-12)[0] < 0.01
    assert within_share(x, ridge=1.0)[0] > 0.2


def test_identical_views_have_share_zero_and_constant_features_offer_nothing():
    x = torch.randn(1, 60, 5)
    assert within_share(x.expand(3, -1, -1)).abs().max() < 1e-9
    assert (within_share(torch.full((2, 20, 6), 0.3)) == 1).all()


def test_more_dimensions_than_samples_changes_only_the_padding():
    x = features(torch.linspace(0.1, 1, 8), 2, 20, torch.linspace(2, 0.1, 8))
    wide = torch.cat([x, torch.zeros(2, 20, 92)], 2) @ torch.linalg.qr(torch.randn(100, 100)).Q
    small, large = within_share(x, ridge=1e-3), within_share(wide, ridge=1e-3 * 100 / 8)
    assert large.shape == (100,)
    assert large[0].item() == pytest.approx(small[0].item(), abs=0.05)


def test_the_result_ascends_and_draws_nothing():
    before = torch.get_rng_state()
    x = features(torch.rand(30), 3, 50)
    state = torch.get_rng_state()
    got = within_share(x.requires_grad_())
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(before, state)
    assert (got.diff() >= 0).all()
    assert got.dtype == torch.float64
    assert not got.requires_grad


def test_ascending_fit_is_scikit_learns_isotonic_regression():
    from sklearn.isotonic import IsotonicRegression

    values = torch.randn(40, dtype=torch.float64) + torch.linspace(0, 2, 40)
    expected = IsotonicRegression().fit_transform(range(40), values.numpy())
    assert _ascending(values).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("shape", [(2, 9, 3), (1, 20, 3), (20, 3)])
def test_too_small_samples_are_refused(shape):
    with pytest.raises(ValueError, match="expected \\(views >= 2, images >= 10, p\\)"):
        within_share(torch.zeros(shape))


def test_non_finite_features_are_refused():
    with pytest.raises(ValueError, match="non-finite"):
        within_share(torch.full((2, 10, 3), float("nan")))
