"""Neighbours that stay and views that find each other, against counting by hand."""

import pytest
import torch
from torch.nn import functional

from isosphere.reductions import nearest_neighbours
from isosphere.statistics import k_occurrences, neighbour_directions, neighbours_kept, two_view_hits


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


def points(n=120, dim=6, concentration=0.0):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, dim, dtype=torch.float64, generator=generator)
    x[:, 0] += concentration
    return torch.nn.functional.normalize(x, dim=1)


def near_of(x, k):
    return nearest_neighbours(x, x, k, exclude=torch.arange(len(x)))[1]


def test_occurrences_and_directions_are_the_double_loop():
    x, k = points(40), 5
    counts, cosines, squares = [0] * len(x), [], []
    for i, chosen in enumerate(nearest(x, k)):
        for j in chosen:
            counts[j] += 1
        ways = [x[j] - (x[i] @ x[j]) * x[i] for j in chosen]
        ways = [way / way.norm() for way in ways]
        pairs = [float(a @ b) for p, a in enumerate(ways) for q, b in enumerate(ways) if p != q]
        cosines.append(sum(pairs) / len(pairs))
        squares.append(sum(c * c for c in pairs) / len(pairs))
    near = near_of(x, k)
    assert k_occurrences(near).tolist() == counts
    first, second = neighbour_directions(x, x[near])
    torch.testing.assert_close(first, torch.tensor(cosines, dtype=torch.float64))
    torch.testing.assert_close(second, torch.tensor(squares, dtype=torch.float64))


def test_neighbours_surround_uniform_points_and_lean_to_the_denser_side_of_others():
    dim = 6
    even, leaning = (
        neighbour_directions(x, x[near_of(x, 10)]) for x in (points(1500, dim, c) for c in (0.0, 2.0))
    )
    error = even[0].std() / len(even[0]) ** 0.5
    assert abs(even[0].mean()) < 4 * error
    assert leaning[0].mean() > even[0].mean() + 8 * error
    assert (even[1] * (dim - 1)).mean().item() == pytest.approx(1, abs=0.05)


def test_neighbours_on_a_circle_lie_on_a_line():
    angle = torch.arange(50, dtype=torch.float64) * 2 * torch.pi / 50
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros(50), torch.zeros(50)], 1)
    first, second = neighbour_directions(circle, circle[near_of(circle, 4)])
    torch.testing.assert_close(second, torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(first, torch.full((50,), -1 / 3, dtype=torch.float64))  # two on each side


def test_to_copies_there_is_no_direction():
    x = torch.cat([points(6), points(6)[:1].repeat(5, 1)])
    first, second = neighbour_directions(x, x[near_of(x, 5)])
    assert first[0].isnan()
    assert second[0].isnan()
    assert not first[1].isnan()


def test_one_row_in_the_middle_is_everybodys_neighbour():
    others = torch.eye(30, 31, dtype=torch.float64)
    hub = torch.full((1, 31), 31**-0.5, dtype=torch.float64)
    counts = k_occurrences(near_of(torch.cat([others, hub]), 3))
    assert counts[-1] == 30
    assert counts.sum() == 3 * 31
