"""Normalising, with the rows where naive formulas break, and the surface."""

import math
from itertools import product

import mpmath as mp
import pytest
import torch

from isosphere.sphere import chord, log_norm, log_surface_area, normalize, polar


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


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own
def test_normalize_is_its_formula_with_its_gradients():
    z = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(normalize(z), z / z.norm(dim=-1, keepdim=True))
    for of in (normalize, log_norm, polar):
        assert torch.autograd.gradcheck(
            of, z, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
        )
        assert torch.autograd.gradgradcheck(of, z, check_fwd_over_rev=True, check_batched_grad=True)
    assert normalize(torch.ones(2, 4, dtype=torch.float16)).dtype == torch.float32
    with pytest.raises(TypeError, match=r"use z\.float"):
        normalize(torch.ones(2, 4, dtype=torch.int64))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own
def test_polar_coordinates_and_their_derivatives_are_written_out_under_transforms():
    def ours(z):
        u, log_r = polar(z)
        return u.pow(3).sum() + log_r.sin().sum()

    def plain(z):
        r = z.norm(dim=-1)
        return (z / r[..., None]).pow(3).sum() + r.log().sin().sum()

    z = torch.randn(3, 5, dtype=torch.float64)
    for outer, inner in product((torch.func.jacfwd, torch.func.jacrev), repeat=2):
        torch.testing.assert_close(outer(inner(ours))(z), outer(inner(plain))(z))
    torch.testing.assert_close(torch.vmap(torch.func.grad(plain))(z), torch.func.grad(ours)(z))
    torch.testing.assert_close(torch.vmap(normalize, in_dims=1, out_dims=1)(z), normalize(z.T).T)


def test_a_row_of_zeros_has_no_derivative_and_a_short_one_a_logarithm():
    z = torch.tensor([[0.0, 0.0], [3e-30, 4e-30], [3.0, 4.0]], requires_grad=True)
    u, log_r = polar(z)
    assert log_r.tolist() == pytest.approx([math.log(1e-12)] * 2 + [math.log(5)])
    (gradient,) = torch.autograd.grad(u.sum() + log_r.sum(), z, retain_graph=True)
    assert gradient[0].tolist() == [0.0, 0.0]
    assert gradient[1:].isfinite().all()
    (gradient,) = torch.autograd.grad(log_r.sum(), z)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [0.0, 0.0], [3 / 25, 4 / 25]]))


def test_a_row_of_zeros_has_no_second_derivative():
    z = torch.tensor([[0.0, 0.0], [1e-40, 1e-40], [3.0, 4.0]], requires_grad=True)

    def curved(z):
        u, log_r = polar(z)
        return u.pow(3).sum() + log_r.sin().sum()

    (slope,) = torch.autograd.grad(curved(z), z, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), z)
    assert second[:2].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert second[2].abs().min() > 0
    for outer, inner in product((torch.func.jacfwd, torch.func.jacrev), repeat=2):
        hessian = outer(inner(curved))(z.detach())
        assert hessian.isfinite().all()
        assert not hessian[:2].any()


def test_the_ends_of_float32():
    z = torch.tensor([[2e38, 3e38], [1e-40, 2e-40]])
    u, log_r = polar(z)
    torch.testing.assert_close(u, torch.tensor([[2.0, 3.0], [0.0, 0.0]]) / math.sqrt(13))
    assert log_r.tolist() == [math.inf, pytest.approx(math.log(1e-12))]
    torch.testing.assert_close(polar(z.double())[0], z.double() / z.double().norm(dim=1, keepdim=True))


@pytest.mark.parametrize("dim", [2, 3, 64, 4096])
def test_surface_area(dim):
    with mp.workdps(40):
        expected = mp.log(2 * mp.pi ** (mp.mpf(dim) / 2) / mp.gamma(mp.mpf(dim) / 2))
    assert log_surface_area(dim) == pytest.approx(float(expected), rel=1e-14)
