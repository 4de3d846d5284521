"""Neighbours that stay and views that find each other, against counting by hand."""

import pytest
import torch
from torch.nn import functional

from isosphere.statistics import neighbours_kept, two_view_hits


def nearest(x, k):
    """The k nearest others of each row by cosine, as sets."""
    unit = functional.normalize(x.double(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    return [set(row.tolist()) for row in cosines.argsort(1, descending=True)[:, :k]]


@pytest.mark.parametrize(("n", "k"), [(5, 1), (30, 7), (50, 20)])
def test_kept_neighbours_against_brute_force(n, k):
    x = torch.randn(n, 6)
    y = torch.cat([x, 0.7 * torch.randn(n, 3)], 1)
    expected = [len(a & b) / k for a, b in zip(nearest(x, k), nearest(y, k), strict=True)]
    found = neighbours_kept(x, y, k)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected)
    assert 0 < found.mean() < 1


def test_kept_neighbours_do_not_see_rotation_scale_or_nothing():
    x = torch.randn(40, 8)
    turned = 3 * x @ torch.linalg.qr(torch.randn(8, 8)).Q
    assert neighbours_kept(x, turned, 10).tolist() == [1.0] * 40
    unrelated = neighbours_kept(torch.randn(400, 8), torch.randn(400, 8), 40).mean()
    assert unrelated == pytest.approx(40 / 399, abs=0.02)


def test_views_that_find_each_other_against_brute_force():
    x = torch.randn(40, 6)
    views = torch.stack([x, x + 0.8 * torch.randn(40, 6)])
    first, second = functional.normalize(views, dim=2)
    cosines = first @ second.T
    rows = torch.arange(40)
    expected = ((cosines.argmax(1) == rows).double() + (cosines.argmax(0) == rows).double()) / 2
    found = two_view_hits(views)
    assert found.tolist() == expected.tolist()
    assert set(found.tolist()) == {0.0, 0.5, 1.0}
    assert two_view_hits(torch.stack([x, x])).mean() == 1


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected"):
        neighbours_kept(torch.randn(5, 3), torch.randn(4, 3), 2)
    with pytest.raises(ValueError, match="1 to n - 1"):
        neighbours_kept(torch.randn(5, 3), torch.randn(5, 3), 5)
    with pytest.raises(ValueError, match=r"expected \(2, n, p\)"):
        two_view_hits(torch.randn(3, 5, 3))
