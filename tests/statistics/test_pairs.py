"""The law of close pairs against the uniform law on a sphere, where it is known, and with copies planted."""

import math

import pytest
import torch
from torch.nn import functional

from isosphere.statistics import pair_law


def on_sphere(n, intrinsic, dim=16, seed=0):
    """Rows of an (intrinsic)-sphere within a larger space."""
    g = torch.Generator().manual_seed(seed)
    rows = functional.normalize(torch.randn(n, intrinsic + 1, generator=g), dim=1)
    return functional.pad(rows, (0, dim - intrinsic - 1))


def close_pairs(z, cosine):
    c = functional.normalize(z.double(), dim=1)
    return int((torch.triu(c @ c.T, 1) >= cosine).sum())


@pytest.mark.parametrize("intrinsic", [2, 3, 5])
@pytest.mark.parametrize("sample", [500, 4000])
def test_the_dimension_of_a_sphere_and_its_close_pairs(intrinsic, sample):
    z = on_sphere(3000, intrinsic)
    beyond = {2: 0.999, 3: 0.99, 5: 0.95}[intrinsic]
    law = pair_law(z, beyond, sample=sample)
    assert law is not None
    assert law.pairs == 3000 * 2999 / 2
    assert law.dimension == pytest.approx(intrinsic, rel=0.12 if sample > 1000 else 0.25)
    # On S^2 the share of pairs within a cap is exactly (1 - c) / 2.
    if intrinsic == 2:
        assert law.expected(beyond) == pytest.approx(law.pairs * (1 - beyond) / 2, rel=0.12)
    assert law.expected(beyond) == pytest.approx(close_pairs(z, beyond), rel=0.15)
    assert law.expected(law.cosine(7.0)) == pytest.approx(7.0)
    assert law.expected(-1.0) == law.pairs


def test_copies_do_not_change_what_is_expected_beside_them():
    z = on_sphere(2000, 3)
    copies = functional.normalize(z[:600] + 1e-3 * torch.randn(600, 16), dim=1)
    without, beside = pair_law(z, 0.99), pair_law(torch.cat([z, copies]), 0.99)
    assert without is not None
    assert beside is not None
    scale = (2600 / 2000) ** 2  # as many pairs more
    assert beside.expected(0.999) == pytest.approx(scale * without.expected(0.999), rel=0.3)
    assert close_pairs(torch.cat([z, copies]), 0.999) > 20 * without.expected(0.999)


def test_few_rows_have_no_law():
    assert pair_law(torch.eye(5), 0.9) is None
    assert pair_law(torch.ones(50, 4), 0.9) is None  # all pairs may be copies
    assert math.isfinite(pair_law(torch.eye(50), 0.9).expected(0.95))
    with pytest.raises(ValueError, match="beyond"):
        pair_law(torch.eye(5), 1.0)


@pytest.mark.parametrize("beyond", [0.5, 0.2, 0.0, -0.3])
def test_copies_that_are_hardly_alike_leave_the_law_to_the_close_pairs(beyond):
    """The cosine that nearly all copies reach may be one that most pairs of different images reach too."""
    z = on_sphere(600, 19, dim=20, seed=3)
    law = pair_law(z, beyond)
    assert law is not None
    cosines = (z @ z.T)[torch.ones(600, 600).triu(1) > 0].sort(descending=True).values
    for observed in (5, 50, 500):
        expected = law.expected(float(cosines[observed - 1]))
        assert observed / 3 < expected < 3 * observed, (observed, expected)
