"""Normalising, with the rows where naive formulas break, and the surface."""

import mpmath as mp
import pytest
import torch

from isosphere.sphere import chord, log_surface_area, normalize


def test_a_chord_is_the_distance_of_unit_rows():
    x, y = normalize(torch.randn(2, 50, 6, dtype=torch.float64))
    torch.testing.assert_close(chord((x * y).sum(1)), (x - y).norm(dim=1))
    assert chord(torch.tensor([1 + 1e-7, 1.0, 0.0, -1.0])).tolist() == pytest.approx([0, 0, 2**0.5, 2])


def test_normalize_survives_tiny_huge_and_zero_rows():
    z = torch.tensor([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0], [-3.0, 4.0]], requires_grad=True)
    unit = normalize(z)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0], [-0.6, 0.8]]))
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


@pytest.mark.parametrize("dim", [2, 3, 64, 4096])
def test_surface_area(dim):
    with mp.workdps(40):
        expected = mp.log(2 * mp.pi ** (mp.mpf(dim) / 2) / mp.gamma(mp.mpf(dim) / 2))
    assert log_surface_area(dim) == pytest.approx(float(expected), rel=1e-14)
