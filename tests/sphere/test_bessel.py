"""The von Mises–Fisher normaliser and its slope against mpmath, from the circle to d = 4096."""

import mpmath as mp
import pytest
import torch

from isosphere.sphere import (
    log_vmf_normalizer,
    marginal_quadrature,
    mean_resultant_length,
)

DIMS = [2, 3, 4, 8, 64, 512, 2048, 4096]


@pytest.mark.parametrize("dim", DIMS)
def test_against_mpmath(dim):
    c = torch.tensor([0.01, 0.7, 5.0, 30.0, 100.0, 1000.0], dtype=torch.float64)
    with mp.workdps(40):
        m = [mp.hyp0f1(mp.mpf(dim) / 2, mp.mpf(v) ** 2 / 4) for v in c.tolist()]
        up = [mp.hyp0f1(mp.mpf(dim) / 2 + 1, mp.mpf(v) ** 2 / 4) for v in c.tolist()]
        logs = [float(mp.log(v)) for v in m]
        slopes = [float(mp.mpf(v) / dim * a / b) for v, a, b in zip(c.tolist(), up, m, strict=True)]
    assert log_vmf_normalizer(c, dim).tolist() == pytest.approx(logs, rel=1e-14)
    assert mean_resultant_length(c, dim).tolist() == pytest.approx(slopes, rel=1e-14)
    assert torch.equal(log_vmf_normalizer(-c, dim), log_vmf_normalizer(c, dim))
    assert torch.equal(mean_resultant_length(-c, dim), -mean_resultant_length(c, dim))


def test_closed_forms_on_the_two_sphere():
    c = torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(log_vmf_normalizer(c, 3), torch.log(torch.sinh(c) / c), rtol=1e-14, atol=0)
    torch.testing.assert_close(mean_resultant_length(c, 3), 1 / torch.tanh(c) - 1 / c, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dim", [2, 5, 64])
def test_it_is_the_mean_of_an_exponential(dim):
    t, w = marginal_quadrature(dim, 60)
    for c in (0.3, 4.0, 12.0):
        assert float(log_vmf_normalizer(c, dim)) == pytest.approx(
            float(torch.log(w @ torch.exp(c * t))), rel=1e-12
        )


def test_large_concentrations_and_zero():
    c = torch.tensor([1e4, 3e4], dtype=torch.float64)
    # At d = 3, log(sinh c / c) = c - log(2 c) to every digit.
    torch.testing.assert_close(log_vmf_normalizer(c, 3), c - torch.log(2 * c), rtol=1e-14, atol=0)
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    log_vmf_normalizer(zero, 64).sum().backward()
    assert zero.grad is not None
    assert zero.grad.tolist() == [0.0, 0.0]


def test_derivatives():
    c = torch.tensor([0.0, 0.3, 5.0, 40.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: log_vmf_normalizer(x, 7), c)
    assert torch.autograd.gradgradcheck(lambda x: log_vmf_normalizer(x, 7), c)
    assert torch.autograd.gradcheck(lambda x: mean_resultant_length(x, 512), c)


def test_shapes_and_dtypes():
    assert log_vmf_normalizer(2.0, 8).shape == ()
    assert log_vmf_normalizer(2.0, 8).dtype == torch.float64
    assert log_vmf_normalizer(torch.ones(2, 3), 8).shape == (2, 3)
    assert log_vmf_normalizer(torch.ones(2, dtype=torch.float16), 8).dtype == torch.float32
    assert log_vmf_normalizer(torch.ones(0), 8).shape == (0,)
    with pytest.raises(TypeError, match="must be floating point"):
        log_vmf_normalizer(torch.ones(2, dtype=torch.int64), 8)
    with pytest.raises(ValueError, match="dim must be at least 2"):
        mean_resultant_length(1.0, 1)
