"""Normalising, distances and tangents, with the points where naive formulas break."""

import math

import mpmath as mp
import pytest
import torch

from isosphere.sphere import (
    chordal_distance_squared,
    count_zero_rows,
    exponential_map,
    geodesic_distance,
    log_surface_area,
    normalize,
    sample_uniform,
    tangent_projection,
)


def test_normalize_survives_tiny_huge_and_zero_rows():
    z = torch.tensor([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0], [-3.0, 4.0]], requires_grad=True)
    unit = normalize(z)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0], [-0.6, 0.8]]))
    assert int(count_zero_rows(z)) == 1
    (unit[2:] * torch.tensor([1.0, 2.0])).sum().backward()
    assert z.grad is not None
    assert z.grad[2].tolist() == [0.0, 0.0]
    assert torch.isfinite(z.grad).all()
    assert float(z.grad[3].abs().max()) > 0


def test_normalize_is_its_formula_with_its_gradients():
    z = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(normalize(z), z / z.norm(dim=-1, keepdim=True))
    assert torch.autograd.gradcheck(normalize, z)
    assert torch.autograd.gradgradcheck(normalize, z)
    assert normalize(torch.ones(2, 4, dtype=torch.float16)).dtype == torch.float32
    with pytest.raises(TypeError, match=r"use z\.float"):
        normalize(torch.ones(2, 4, dtype=torch.int64))


def test_distances_are_accurate_and_finite_everywhere():
    angle = torch.tensor([1e-9, 1e-4, 1.0, math.pi - 1e-4, math.pi - 1e-9], dtype=torch.float64)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(5, 2)
    y = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    torch.testing.assert_close(geodesic_distance(x, y), angle, rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(
        chordal_distance_squared(x, y), 4 * torch.sin(angle / 2) ** 2, rtol=1e-12, atol=0
    )
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    d = geodesic_distance(p, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert d.tolist() == pytest.approx([0.0, math.pi])
    d.sum().backward()
    assert p.grad is not None
    assert torch.isfinite(p.grad).all()


def test_exponential_map_goes_the_length_of_its_velocity():
    x = sample_uniform(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = tangent_projection(x, torch.randn(6, 5, dtype=torch.float64))
    torch.testing.assert_close((x * v).sum(-1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-14)
    y = exponential_map(x, v)
    torch.testing.assert_close(y.norm(dim=-1), torch.ones(6, dtype=torch.float64))
    length = v.norm(dim=-1)
    torch.testing.assert_close(geodesic_distance(x, y), torch.acos(torch.cos(length)), rtol=1e-12, atol=1e-12)
    still = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    exponential_map(x[:1], still).sum().backward()
    assert still.grad is not None
    torch.testing.assert_close(still.grad, torch.ones(1, 5, dtype=torch.float64))


@pytest.mark.parametrize("dim", [2, 3, 64, 4096])
def test_surface_area(dim):
    with mp.workdps(40):
        expected = mp.log(2 * mp.pi ** (mp.mpf(dim) / 2) / mp.gamma(mp.mpf(dim) / 2))
    assert log_surface_area(dim) == pytest.approx(float(expected), rel=1e-14)
