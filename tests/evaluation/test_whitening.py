"""Features in the metric of their own variance."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from isosphere.evaluation import WCCN, pca_whitened, standardised
from isosphere.statistics import class_angles, covariance_spectrum, effective_rank, kmeans, lidar, silhouettes


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


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_a_sentence(broken):
    """And no error of linear algebra; also where there are more features than rows."""
    x = torch.randn(12, 5)
    x[3, 2] = broken
    for asked in (
        lambda: standardised(x, x),
        lambda: standardised(x, shrinkage=0.1),
        lambda: pca_whitened(x, x),
        lambda: pca_whitened(x.T, x.T),
        lambda: WCCN.fit(torch.stack([x, x])),
        lambda: covariance_spectrum(x),
        lambda: effective_rank(x),
        lambda: lidar(torch.stack([x, x])),
        lambda: silhouettes(x, torch.arange(12) % 2),
        lambda: class_angles(x, torch.arange(12) % 2),
        lambda: kmeans(x, 2),
    ):
        with pytest.raises(ValueError, match="non-finite numbers, expected finite ones"):
            asked()
    with pytest.raises(ValueError, match="no rows"):
        standardised(x[:0])
