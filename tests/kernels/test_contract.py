"""What every kernel promises, whichever it is."""

import dataclasses
import math
import pickle

import pytest
import torch

from isosphere.kernels import (
    BandlimitedKernel,
    FejerKernel,
    HeatKernel,
    InducedKernel,
    JacksonKernel,
    VonMisesFisherKernel,
    ZonalKernel,
    _zonal,
    stein,
)
from isosphere.kernels._approximate import shortest_sum
from isosphere.sphere import gegenbauer, log_harmonic_dimensions, marginal_quadrature, sample_uniform

KERNELS: list[ZonalKernel] = [
    HeatKernel(2),
    HeatKernel(3, time=0.1),
    HeatKernel(256),
    HeatKernel(256, time=2 / 256),
    BandlimitedKernel(2, 7),
    BandlimitedKernel(256),
    VonMisesFisherKernel(3, 4.0),
    VonMisesFisherKernel(512),
    InducedKernel(4),
    InducedKernel(256),
    InducedKernel(64, knots=[0.0, 5.0, 10.0], weights=[0.5, 0.8, 0.2]),
    JacksonKernel(256),
    JacksonKernel(3, 8, floor=0.05),
    FejerKernel(8, 4),
    stein(HeatKernel(256)),
    stein(InducedKernel(2)),
    stein(BandlimitedKernel(512)),
    stein(VonMisesFisherKernel(64, 30.0)),
]
POSITIVE = [k for k in KERNELS if k.is_positive]

every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=repr)
every_positive_kernel = pytest.mark.parametrize("kernel", POSITIVE, ids=repr)


def interior() -> torch.Tensor:
    return torch.tensor([-0.93, -0.4, -0.02, 0.0, 0.11, 0.6, 0.97], dtype=torch.float64, requires_grad=True)


@every_kernel
def test_weights_are_a_probability_and_sum_to_the_kernel(kernel: ZonalKernel):
    p = kernel.weights()
    assert p.dtype == torch.float64
    assert p.device.type == "cpu"
    assert p.shape == (kernel.max_degree + 1,)
    assert bool((p >= 0).all())
    assert math.fsum(p.tolist()) == pytest.approx(1, abs=1e-15)
    assert float(p[-1]) > 0
    c = torch.linspace(-1, 1, 41, dtype=torch.float64)
    torch.testing.assert_close(
        kernel(c), gegenbauer(c, kernel.max_degree, kernel.dim) @ p, rtol=0, atol=2e-13
    )
    assert float(kernel(c[-1])) == pytest.approx(1, abs=1e-14)
    assert float(kernel(c).abs().max()) <= 1 + 1e-14


@every_kernel
def test_mean_and_variance_are_those_of_pairs_of_uniform_points(kernel: ZonalKernel):
    t, w = marginal_quadrature(kernel.dim, 200)
    mean = float(w @ kernel(t))
    assert kernel.mean == pytest.approx(mean, rel=1e-12, abs=2e-14)
    assert kernel.mean == float(kernel.weights()[0]) or kernel.mean == pytest.approx(
        float(kernel.weights()[0])
    )
    assert kernel.log_mean == (pytest.approx(math.log(kernel.mean)) if kernel.mean else -math.inf)
    variance = float(w @ (kernel(t) - mean) ** 2)
    assert kernel.pair_variance == pytest.approx(variance, rel=1e-9, abs=1e-24)
    p, n = kernel.weights(), torch.exp(log_harmonic_dimensions(kernel.max_degree, kernel.dim))
    assert kernel.pair_variance == pytest.approx(float((p[1:] ** 2 / n[1:]).sum()), rel=1e-12)


@every_kernel
def test_gram_matrix_is_positive_semidefinite(kernel: ZonalKernel):
    z = sample_uniform(30, kernel.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = torch.cat([z, z[:3], -z[:3]])  # coincident and antipodal points too
    gram = kernel(z @ z.mT)
    assert torch.isfinite(gram).all()
    assert float(torch.linalg.eigvalsh(gram).min()) > -1e-13


@every_kernel
def test_derivatives_are_those_of_autograd(kernel: ZonalKernel):
    c = interior()
    value = kernel(c)
    for order in (1, 2, 3, 4):
        (value,) = torch.autograd.grad(value.sum(), c, create_graph=True)
        expected = kernel.derivative(c, order)
        torch.testing.assert_close(
            value, expected, rtol=1e-11, atol=1e-12 * float(expected.detach().abs().max())
        )
    assert torch.autograd.gradcheck(kernel, c, atol=1e-6, rtol=1e-4)
    assert torch.autograd.gradgradcheck(kernel, c, atol=1e-5, rtol=1e-4)


@every_positive_kernel
def test_logarithm_is_that_of_the_kernel_with_its_gradients(kernel: ZonalKernel):
    c = interior()
    value = kernel(c)
    seen = value > 1e-6  # below, the value has lost the digits that the logarithm keeps
    assert bool(seen.any())
    torch.testing.assert_close(kernel.log(c)[seen], value[seen].log(), rtol=0, atol=1e-9)
    assert torch.autograd.gradcheck(kernel.log, c, atol=1e-5, rtol=1e-4)
    assert torch.autograd.gradgradcheck(kernel.log, c, atol=1e-4, rtol=1e-4)
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64, requires_grad=True)
    log = kernel.log(ends)
    (gradient,) = torch.autograd.grad(log.sum(), ends)
    assert torch.isfinite(log).all()
    assert torch.isfinite(gradient).all()
    assert float(log.detach()[1]) == pytest.approx(0, abs=1e-12)


@every_positive_kernel
def test_density_has_mass_one(kernel: ZonalKernel):
    """log(c) - log_mean is a log density with respect to the uniform probability."""
    t, w = marginal_quadrature(kernel.dim, 250)
    assert float(w @ torch.exp(kernel.log(t) - kernel.log_mean)) == pytest.approx(1, abs=1e-9)


@every_kernel
def test_kernel_without_a_logarithm_says_which_have_one(kernel: ZonalKernel):
    if not kernel.is_positive:
        with pytest.raises(ValueError, match=r"use HeatKernel, .*JacksonKernel or FejerKernel"):
            kernel.log(torch.zeros(2))


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_shape_and_accuracy(kernel: ZonalKernel, dtype: torch.dtype):
    c = (torch.rand(3, 5, 4, dtype=torch.float64) * 2 - 1).to(dtype)
    value = kernel(c)
    assert value.shape == c.shape
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), kernel(c.double()), rtol=0, atol=1e-6)
    slope = kernel.derivative(c)
    largest = float(kernel.derivative(torch.ones((), dtype=torch.float64)))
    torch.testing.assert_close(slope.double(), kernel.derivative(c.double()), rtol=0, atol=1e-6 * largest)
    for empty in (torch.zeros(0, 3, dtype=dtype), torch.zeros((), dtype=dtype)):
        assert kernel(empty).shape == empty.shape
    if kernel.is_positive:
        log = kernel.log(c)
        assert log.dtype == value.dtype
        exact = kernel.log(c.double())
        torch.testing.assert_close(log.double(), exact, rtol=3e-6, atol=3e-5)


@every_kernel
@pytest.mark.parametrize("order", [0, 1, 2])
def test_float32_is_within_two_units_in_the_last_place_of_the_largest_value(kernel: ZonalKernel, order: int):
    c = torch.linspace(-1, 1, 3001)
    for function in (kernel.derivative, kernel.centred):
        exact = function(c.double(), order)
        error = (function(c, order).double() - exact).abs().max()
        # A Chebyshev series of a peaked kernel adds up larger terms than its value.
        assert float(error) <= (2.6e-7 if folds(kernel, order) else 2e-6) * float(exact.abs().max())


def folds(kernel: ZonalKernel, order: int) -> bool:
    return all(shortest_sum(of, kernel, order, True).monomial for of in (_zonal._value, _zonal._centred))


@every_kernel
@pytest.mark.parametrize("order", [0, 1, 2])
def test_centred_is_the_kernel_without_its_mean(kernel: ZonalKernel, order: int):
    c = interior()
    expected = (kernel.derivative(c, order) - (kernel.mean if order == 0 else 0)) / (1 - kernel.mean)
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(kernel.centred(c, order), expected, rtol=1e-12, atol=1e-12 * largest)
    t, w = marginal_quadrature(kernel.dim, 200)
    if order == 0:
        assert float(w @ kernel.centred(t)) == pytest.approx(0, abs=1e-14)
        assert float(kernel.centred(torch.ones(()))) == pytest.approx(1, abs=1e-6)


@every_kernel
def test_it_is_a_value(kernel: ZonalKernel):
    copy = pickle.loads(pickle.dumps(kernel))
    assert copy == kernel
    assert hash(copy) == hash(kernel)
    assert {kernel: 1}[copy] == 1
    assert len({*KERNELS}) == len(KERNELS)
    c = torch.linspace(-1, 1, 5)
    assert torch.equal(copy(c), kernel(c))
    with pytest.raises(dataclasses.FrozenInstanceError):
        kernel.dim = 3
    assert type(kernel).__name__ in repr(kernel)
    kernel.weights().zero_()
    assert float(kernel.weights().sum()) == pytest.approx(1)


@every_kernel
def test_wrong_arguments_are_refused_in_words(kernel: ZonalKernel):
    with pytest.raises(TypeError, match="floating-point tensor of cosines"):
        kernel(torch.ones(2, dtype=torch.int64))
    for order in (-1, 5, 1.0, True):
        with pytest.raises(ValueError, match="order must be one of"):
            kernel.derivative(torch.zeros(2), order)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "family", [HeatKernel, BandlimitedKernel, VonMisesFisherKernel, InducedKernel, JacksonKernel, FejerKernel]
)
def test_dimension_is_checked(family):
    with pytest.raises(ValueError, match="dim must be at least 2"):
        family(1)
    with pytest.raises(TypeError, match="dim must be an int"):
        family(8.0)
    with pytest.raises(TypeError, match="dim must be an int"):
        family(True)


@every_kernel
def test_docstring_has_formula_and_reference(kernel: ZonalKernel):
    text = type(kernel).__doc__ or ""
    assert "``p" in text
    assert "(c) " in text
    for heading in ("Args:", "Raises:", "Numerics:", "Reference:"):
        assert heading in text, heading


@every_kernel
def test_gradients_are_finite_at_coincident_and_antipodal_points(kernel: ZonalKernel):
    """Gradients through normalised rows stay finite where points coincide or are antipodal, in float32."""
    z = sample_uniform(6, kernel.dim, generator=torch.Generator().manual_seed(1))
    z = torch.cat([z, z[:1], -z[:1]]).requires_grad_()
    (gradient,) = torch.autograd.grad(kernel(z @ z.mT).mean(), z)
    assert torch.isfinite(gradient).all()
