"""The law of one coordinate against mpmath, scipy and samples."""

import math

import mpmath as mp
import pytest
import torch
from scipy import special, stats

from isosphere.sphere import (
    log_marginal_density,
    marginal_cf,
    marginal_quadrature,
)

DIMS = [2, 3, 4, 8, 64, 512, 2048, 4096]


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("nodes", [1, 2, 7, 40, 90])
def test_rule_integrates_moments_exactly(dim, nodes):
    t, w = marginal_quadrature(dim, nodes)
    assert t.shape == w.shape == (nodes,)
    assert bool((t[1:] > t[:-1]).all())
    assert bool((w >= 0).all())
    assert float(w.sum()) == pytest.approx(1, abs=1e-14)
    moment = 1.0
    for k in range(1, min(nodes, 12)):
        moment *= (2 * k - 1) / (dim + 2 * k - 2)  # E t^{2k} = (1/2)_k / (d/2)_k
        assert float(w @ t ** (2 * k)) == pytest.approx(moment, rel=1e-12)
        assert abs(float(w @ t ** (2 * k - 1))) < 1e-16


def test_rule_is_gauss_legendre_on_the_two_sphere_and_chebyshev_on_the_circle():
    t, w = marginal_quadrature(3, 20)
    x, v = special.roots_legendre(20)
    assert t.tolist() == pytest.approx(x.tolist(), abs=1e-15)
    assert w.tolist() == pytest.approx((v / 2).tolist(), rel=1e-13)
    t, w = marginal_quadrature(2, 20)
    assert t.tolist() == pytest.approx([-math.cos((k + 0.5) * math.pi / 20) for k in range(20)], abs=1e-15)
    assert w.tolist() == pytest.approx([1 / 20] * 20, rel=1e-13)


@pytest.mark.parametrize("dim", [4, 64, 512])
def test_small_weights_are_accurate_relative_to_themselves(dim):
    _, w = marginal_quadrature(dim, 40)
    _, v = special.roots_gegenbauer(40, (dim - 2) / 2)
    v = v / v.sum()
    used = v > 1e-280
    assert w[torch.from_numpy(used)].tolist() == pytest.approx(v[used].tolist(), rel=1e-8)


@pytest.mark.parametrize("dim", DIMS)
def test_characteristic_function_against_mpmath(dim):
    s = torch.tensor([0.0, 0.1, 1.0, 3.0, 12.0, 31.0, 50.0], dtype=torch.float64)
    with mp.workdps(120):
        expected = [float(mp.hyp0f1(mp.mpf(dim) / 2, -(mp.mpf(v) ** 2) / 4)) for v in s.tolist()]
    torch.testing.assert_close(
        marginal_cf(s, dim), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=8e-15
    )
    torch.testing.assert_close(
        marginal_cf(-s.float(), dim).double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("dim", [2, 3, 64, 4096])
def test_characteristic_function_at_high_frequency(dim):
    s = torch.tensor([150.0, 300.0], dtype=torch.float64)
    with mp.workdps(400):
        expected = [float(mp.hyp0f1(mp.mpf(dim) / 2, -(mp.mpf(v) ** 2) / 4)) for v in s.tolist()]
    torch.testing.assert_close(
        marginal_cf(s, dim), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert float(marginal_cf(torch.tensor(700.0).double(), 3)) == pytest.approx(
        math.sin(700) / 700, abs=1e-13
    )
    with pytest.raises(ValueError, match="must be at most 2000"):
        marginal_cf(torch.tensor([2001.0]), dim)


def test_characteristic_function_gradients():
    s = torch.tensor([0.0, 0.5, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: marginal_cf(x, 6), s)
    assert torch.autograd.gradgradcheck(lambda x: marginal_cf(x, 6), s)
    assert marginal_cf(torch.ones(2, 3, dtype=torch.bfloat16), 6).dtype == torch.float32
    assert marginal_cf(torch.ones(0), 6).shape == (0,)


@pytest.mark.parametrize("dim", DIMS)
def test_density_against_scipy(dim):
    t = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64)
    expected = stats.beta.logpdf(t.numpy(), (dim - 1) / 2, (dim - 1) / 2, loc=-1, scale=2)
    assert log_marginal_density(t, dim).tolist() == pytest.approx(expected.tolist(), rel=1e-11, abs=1e-11)
    assert float(log_marginal_density(torch.tensor([1.5]), dim)) == -math.inf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: marginal_quadrature(1, 4), ValueError, "dim must be at least 2"),
        (lambda: marginal_quadrature(4, 0), ValueError, "nodes must be at least 1"),
        (lambda: marginal_cf(torch.tensor([1]), 4), TypeError, "s must be floating point"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()
