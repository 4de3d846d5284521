"""Features in the metric of their own variance, and in that of their views."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from isosphere.evaluation import standardised, view_whitened


def test_standardising_is_scikit_learns_and_constants_vanish():
    train, test = torch.randn(50, 4) * 3 + 1, torch.randn(9, 4)
    train[:, 2] = 7.0
    got_train, got_test = standardised(train, test)
    scaler = StandardScaler().fit(train.double().numpy())
    expected = np.asarray(scaler.transform(test.double().numpy()))
    expected[:, 2] = 0
    np.testing.assert_allclose(got_test.numpy(), expected, atol=1e-5)
    assert (got_train[:, 2] == 0).all()


def test_shrinkage_goes_from_single_features_to_full_whitening():
    train = torch.randn(400, 5) @ torch.randn(5, 5)
    (white,) = standardised(train, shrinkage=0.0)
    torch.testing.assert_close(white.T @ white / 400, torch.eye(5), atol=1e-4, rtol=0)
    (half,) = standardised(train, shrinkage=0.5)
    (single,) = standardised(train)
    correlation = (single.T @ single / 400).double()
    torch.testing.assert_close(
        (half.T @ half / 400).double(),
        correlation @ torch.linalg.inv((correlation + torch.eye(5)) / 2),
        atol=1e-4,
        rtol=0,
    )
    with pytest.raises(ValueError, match="0 \\(whitened\\) to 1"):
        standardised(train, shrinkage=1.5)


def test_views_differ_as_much_in_every_direction():
    images, views, p = 3000, 3, 6
    mixing = torch.randn(p, p)
    x = torch.randn(images, p) + torch.randn(views, images, p) @ mixing
    train = x.mean(0)
    first, *seen = view_whitened(train, *x, views=x, shrinkage=1e-6)
    apart = torch.stack(seen) - torch.stack(seen).mean(0)
    within = torch.cov(apart.flatten(0, 1).T, correction=0) * views / (views - 1)
    scale = torch.trace(within) / p
    torch.testing.assert_close(within / scale, torch.eye(p), atol=1e-3, rtol=0)
    torch.testing.assert_close(first.mean(0), torch.zeros(p), atol=1e-4, rtol=0)


def test_shrinkage_is_towards_the_mean_variance_of_the_views():
    views, train = torch.randn(2, 50, 4) * torch.tensor([1.0, 2, 3, 4]), torch.randn(9, 4)
    apart = (views[0] - views[1]).double()
    within = apart.T @ apart / (2 * 50)  # two views: half of the mean square of their difference
    shrunk = 0.7 * within + 0.3 * within.diagonal().mean() * torch.eye(4)
    (got,) = view_whitened(train, views=views, shrinkage=0.3)
    centred = (train - train.mean(0)).double()
    expected = centred @ torch.linalg.inv(shrunk) @ centred.T * within.diagonal().mean()
    torch.testing.assert_close((got @ got.T).double(), expected, atol=1e-4, rtol=1e-4)


def test_views_that_do_not_differ_only_centre():
    x = torch.randn(20, 3)
    for views, shrinkage in ((x.expand(2, 20, 3), 0.1), (torch.randn(2, 20, 3), 1.0)):
        (got,) = view_whitened(x, views=views, shrinkage=shrinkage)
        cosines = torch.corrcoef(torch.stack([got.flatten(), (x - x.mean(0)).flatten()]))
        torch.testing.assert_close(cosines, torch.ones(2, 2))


def test_a_direction_in_which_views_differ_no_longer_hides_the_neighbour():
    """Two groups apart in one direction, views apart by five times as much in eight others."""
    group = torch.arange(200) % 2
    x = torch.zeros(200, 9)
    x[:, 0] = group * 2.0 - 1
    noise = torch.tensor([0.1, *[10.0] * 8])
    views = x + noise * torch.randn(2, 200, 9)
    points = x + noise * torch.randn(200, 9)

    def found(z):
        z = torch.nn.functional.normalize(z, dim=1)
        return (group[(z @ z.T).fill_diagonal_(-2).argmax(1)] == group).float().mean()

    assert found(points) < 0.7
    assert found(view_whitened(points, views=views, shrinkage=1e-5)[0]) > 0.95


@pytest.mark.parametrize(
    ("views", "shrinkage"), [((1, 9, 4), 0.1), ((2, 9, 3), 0.1), ((9, 4), 0.1), ((2, 9, 4), 0.0)]
)
def test_views_of_another_shape_are_refused(views, shrinkage):
    with pytest.raises(ValueError, match="at least 2 views"):
        view_whitened(torch.randn(9, 4), views=torch.randn(views), shrinkage=shrinkage)
