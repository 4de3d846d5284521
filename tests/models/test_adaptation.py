"""Frozen features adapted to the images at hand, from their views."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from isosphere.models import Adaptation, fit_adaptation


def some(views=3, images=40, p=6):
    return torch.randn(images, p) + 2 + 0.4 * torch.randn(views, images, p) * torch.linspace(0.2, 2, p)


def test_by_hand():
    """Every step with loops and inverses, nothing shared with the code."""
    views, x = some().double(), torch.randn(9, 6).double()
    unit = views / views.norm(dim=2, keepdim=True)
    mean = unit.flatten(0, 1).mean(0)

    def within(z):
        return sum(torch.cov(z[:, i].T) for i in range(z.shape[1])) / z.shape[1]

    w = within(unit)
    w = 0.7 * w / (w.trace() / 6) + 0.3 * torch.eye(6)
    values, vectors = torch.linalg.eigh(w)
    root = vectors @ (values**-0.5).diag() @ vectors.T
    z = unit @ root
    between = torch.cov(z.mean(0).T) - within(z) / 3
    values, directions = torch.linalg.eigh(between)
    values = (40 * values.clamp(min=0) + 100 * values.clamp(min=0).mean()) / 140
    gain = sum(v**0.4 * torch.outer(u, u) for v, u in zip(values, directions.T, strict=True))
    y = x / x.norm(dim=1, keepdim=True)
    expected = normalize((y - 0.5 * mean) @ root @ gain, dim=1)
    got = fit_adaptation(views, shrinkage=0.3, strength=0.4, centring=0.5)(x)
    assert got.dtype == torch.float32
    torch.testing.assert_close((got @ got.T).double(), expected @ expected.T, atol=1e-5, rtol=0)


def test_rows_are_unit():
    out = fit_adaptation(some())(torch.randn(7, 6))
    assert out.shape == (7, 6)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(7))


def test_the_order_of_images_and_views_and_their_lengths_do_not_matter():
    views, x = some(), torch.randn(5, 6)
    first = fit_adaptation(views)(x)
    other = fit_adaptation(views[:, torch.randperm(40)][torch.tensor([2, 0, 1])] * 7)(3 * x)
    torch.testing.assert_close(first @ first.T, other @ other.T, atol=1e-5, rtol=0)


def test_turned_features_are_turned_before_and_compared_the_same():
    views, x = some().double(), torch.randn(5, 6).double()
    turn = torch.linalg.qr(torch.randn(6, 6).double()).Q
    first, other = fit_adaptation(views)(x), fit_adaptation(views @ turn)(x @ turn)
    torch.testing.assert_close(first @ first.T, other @ other.T, atol=1e-5, rtol=0)


def test_a_direction_that_views_change_counts_less():
    """Two groups apart in one direction, views apart by much in eight others, as images are."""
    group = torch.arange(400) % 2
    x = torch.cat([(group * 2.0 - 1)[:, None], torch.full((400, 8), 30.0)], 1)
    noise = torch.tensor([0.1, *[6.0] * 8])
    metric = fit_adaptation(x + noise * torch.randn(4, 400, 9), shrinkage=0.01, centring=1)
    points = x + noise * torch.randn(400, 9)

    def found(z):
        z = normalize(z, dim=1)
        return (group[(z @ z.T).fill_diagonal_(-2).argmax(1)] == group).float().mean()

    assert found(points) < 0.6
    assert found(metric(points)) > 0.85


def test_views_that_do_not_differ_only_centre():
    x = torch.randn(20, 6).abs()
    got = fit_adaptation(x.expand(3, 20, 6), strength=0, centring=1)(x)
    unit = normalize(x, dim=1)
    torch.testing.assert_close(got, normalize(unit - unit.mean(0), dim=1), atol=1e-5, rtol=0)


def test_a_few_images_do_not_hide_what_they_do_not_show():
    """Features that differ from the views' images in a direction that none of these takes."""
    views = torch.zeros(2, 3, 6)
    views[:, :, :4] = torch.randn(3, 4) + 0.1 * torch.randn(2, 3, 4)
    x = torch.ones(2, 6) - 2 * torch.eye(6)[4:]
    out = fit_adaptation(views)(x)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))
    assert (out[0] @ out[1]) < 0.9


def test_passes_of_the_same_images_are_averaged():
    adaptation, x = fit_adaptation(some()), torch.randn(2, 5, 6)
    torch.testing.assert_close(adaptation(x), adaptation(normalize(x, dim=2).mean(0)))


def test_numpy_in_numpy_out():
    views, x = some(), torch.randn(5, 6)
    got = fit_adaptation(views.numpy())(x.numpy())
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, fit_adaptation(views)(x).numpy())


def test_what_is_kept_comes_back(tmp_path):
    from safetensors.torch import load_file, save_file

    adaptation, x = fit_adaptation(some(), strength=2), torch.randn(5, 6)
    save_file(adaptation.state, tmp_path / "a.safetensors")
    again = Adaptation.from_state(load_file(tmp_path / "a.safetensors"))
    assert torch.equal(again(x), adaptation(x))
    assert again.describe() == adaptation.describe()
    assert "3 views of 40 images" in again.describe()


@pytest.mark.parametrize("name", ["mean", "basis", "strength"])
def test_a_state_that_lacks_something_is_refused(name):
    state = fit_adaptation(some()).state
    del state[name]
    with pytest.raises(ValueError, match="expected those of an adaptation"):
        Adaptation.from_state(state)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (torch.ones(1, 9, 4), "at least 2 views"),
        (torch.ones(2, 1, 4), "of 2 images"),
        (torch.ones(9, 4), "expected \\(views, images, features\\)"),
        (torch.full((2, 9, 4), torch.nan), "non-finite"),
        (torch.ones(2, 9, 4).index_fill(1, torch.tensor([3]), 0), "zeros \\(view 0, image 3\\)"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_sentence(views, message):
    with pytest.raises(ValueError, match=message):
        fit_adaptation(views)


@pytest.mark.parametrize("setting", [{"shrinkage": 0.0}, {"strength": -1.0}, {"centring": float("nan")}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=rf"{next(iter(setting))}: got .*expected"):
        fit_adaptation(some(), **setting)


@pytest.mark.parametrize("x", [torch.ones(3, 5), torch.ones(6), torch.full((3, 6), torch.inf)])
def test_features_of_another_network_or_non_finite_are_refused(x):
    with pytest.raises(ValueError, match="features: got"):
        fit_adaptation(some())(x)


def test_its_scikit_learn_face():
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    from isosphere import FeatureAdapter

    views, x = some().numpy(), torch.randn(5, 6).numpy()
    adapter = clone(FeatureAdapter(shrinkage=0.5))
    with pytest.raises(NotFittedError):
        adapter.transform(x)
    np.testing.assert_array_equal(adapter.fit(views).transform(x), fit_adaptation(views, shrinkage=0.5)(x))
    np.testing.assert_allclose(adapter.fit_transform(views), adapter.transform(views), atol=1e-6)
