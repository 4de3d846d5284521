"""Features in the metric of their own variance."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from isosphere.evaluation import standardised


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
