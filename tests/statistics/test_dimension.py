"""Local dimension against a double loop and known manifolds; LiDAR against its definition and at its ends."""

import math

import pytest
import torch
from torch.nn import functional

from isosphere.statistics import lidar, local_intrinsic_dimensions


def by_loops(x, k):
    found = []
    for i in range(len(x)):
        r = sorted((x[i].double() - x[j].double()).norm().item() for j in range(len(x)) if j != i)[:k]
        found.append(1 / (sum(math.log(r[-1] / a) for a in r[:-1]) / (k - 1)))
    return found


@pytest.mark.parametrize("k", [3, 10, 39])
def test_local_dimension_is_the_double_loop(k):
    x = torch.randn(40, 5) + 100
    assert local_intrinsic_dimensions(x, k).tolist() == pytest.approx(by_loops(x, k), rel=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_dimension_of_a_flat_piece_in_a_large_space_is_found(dim):
    x = torch.rand(3000, dim) @ torch.linalg.qr(torch.randn(50, dim)).Q.T
    m = local_intrinsic_dimensions(x, 20)
    assert 1 / (1 / m).mean().item() == pytest.approx(dim, rel=0.12)


def test_the_sphere_has_one_dimension_less_than_its_space():
    x = functional.normalize(torch.randn(3000, 4), dim=1)
    m = local_intrinsic_dimensions(x, 15)
    assert 1 / (1 / m).mean().item() == pytest.approx(3, rel=0.1)


def test_coinciding_rows_are_no_neighbours():
    x = torch.randn(60, 3)
    twice = torch.cat([x, x])
    got = local_intrinsic_dimensions(twice, 11)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got[:60], got[60:], rtol=1e-9, atol=0)
    assert local_intrinsic_dimensions(torch.full((30, 4), 0.3), 5).isnan().all()
    cross = torch.cat([torch.eye(8), -torch.eye(8)])
    assert (local_intrinsic_dimensions(cross, 5) > 1e6).all()
    with pytest.raises(ValueError, match="3 to n - 1"):
        local_intrinsic_dimensions(x, 60)


def test_lidar_is_its_definition():
    x = torch.randn(30, 6, dtype=torch.float64) * torch.linspace(0.2, 2, 6)
    views = x + 0.3 * torch.randn(4, 30, 6, dtype=torch.float64)
    means = views.mean(0)
    inside = (views - means).reshape(-1, 6)
    within = inside.T @ inside / (30 * 3) + 1e-4 * torch.eye(6)
    values, basis = torch.linalg.eigh(within)
    root = basis @ (values**-0.5).diag() @ basis.T
    eigenvalues = torch.linalg.eigvalsh(root @ means.T.cov() @ root)
    shares = eigenvalues / eigenvalues.sum()
    assert lidar(views).item() == pytest.approx((-(shares * shares.log()).sum()).exp().item())


def test_lidar_counts_the_directions_that_tell_images_apart():
    x = torch.zeros(400, 20)
    x[:, :5] = torch.randn(400, 5)
    views = x + 0.01 * torch.randn(3, 400, 20)
    assert lidar(views).item() == pytest.approx(5, rel=0.05)
    wide = functional.pad(views, (0, 500))
    assert lidar(wide).item() == pytest.approx(lidar(views).item(), rel=1e-6)
    line = torch.randn(1, 50, 1).expand(2, -1, -1) * torch.ones(7)
    assert lidar(line).item() == pytest.approx(1, abs=1e-6)
    assert lidar(torch.full((2, 30, 4), 0.3)).item() == 0.0
    with pytest.raises(ValueError, match="at least two views"):
        lidar(views[:1])
