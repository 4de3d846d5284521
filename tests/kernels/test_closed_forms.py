"""Bandlimited, von Mises–Fisher, Stein, Jackson and Fejér kernels against their closed forms."""

import math

import mpmath as mp
import pytest
import torch
from scipy import special

from isosphere.kernels import (
    BandlimitedKernel,
    FejerKernel,
    HeatKernel,
    InducedKernel,
    JacksonKernel,
    VonMisesFisherKernel,
    ZonalKernel,
    stein,
)
from isosphere.sphere import gegenbauer, marginal_quadrature
from tests.kernels.references import dimension, series

DIMS = [2, 3, 4, 8, 64, 512, 2048]
COSINES = [-1.0, -0.7, -0.02, 0.0, 0.4, 0.95, 1.0]


def cosines() -> torch.Tensor:
    return torch.tensor(COSINES, dtype=torch.float64)


# -- bandlimited


@pytest.mark.parametrize("max_degree", [1, 2, 5, 20])
@pytest.mark.parametrize("dim", DIMS)
def test_bandlimited_against_mpmath(dim, max_degree):
    kernel = BandlimitedKernel(dim, max_degree)
    with mp.workdps(40):
        terms = [dimension(l, dim) for l in range(max_degree + 1)]
        for order in (0, 1, 3):
            expected = [float(series(terms, c, dim, order)) for c in COSINES]
            assert kernel.derivative(cosines(), order).tolist() == pytest.approx(
                expected, rel=0, abs=1e-12 * max(abs(expected[-1]), 1e-300)
            )
        weights = [float(v / mp.fsum(terms)) for v in terms]
    assert kernel.weights().tolist() == pytest.approx(weights, rel=1e-13)
    assert kernel.max_degree == max_degree


def test_bandlimited_of_the_papers():
    kernel = BandlimitedKernel(256)
    assert 1 / kernel.mean == pytest.approx(33152)
    assert float(kernel.derivative(torch.ones((), dtype=torch.float64))) == pytest.approx(2.0, abs=5e-4)
    assert kernel.second_moment_coefficients() == pytest.approx((1 / 33152, 256 / 33152, 32895 / 33152))
    assert BandlimitedKernel(256, 1).second_moment_coefficients() == pytest.approx((1 / 257, 256 / 257, 0.0))
    assert BandlimitedKernel(256, 3).second_moment_coefficients() is None
    with pytest.raises(ValueError, match="max_degree must be at least 1"):
        BandlimitedKernel(256, 0)
    with pytest.raises(ValueError, match="not positive"):
        kernel.log(torch.zeros(1))


# -- von Mises–Fisher


@pytest.mark.parametrize("concentration", [0.1, 10.0, 300.0])
@pytest.mark.parametrize("dim", DIMS)
def test_von_mises_fisher_against_mpmath(dim, concentration):
    kernel = VonMisesFisherKernel(dim, concentration)
    expected = torch.exp(concentration * (cosines() - 1))
    torch.testing.assert_close(kernel(cosines()), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(
        kernel.derivative(cosines(), 3), concentration**3 * expected, rtol=1e-13, atol=0
    )
    torch.testing.assert_close(kernel.log(cosines()), concentration * (cosines() - 1), rtol=0, atol=0)
    p = kernel.weights()
    with mp.workdps(40):
        k, h = mp.mpf(concentration), mp.mpf(dim) / 2
        logs = []
        for l in range(p.numel()):
            bessel = (k / 2) ** l / mp.rf(h, l) * mp.hyp0f1(h + l, k**2 / 4)
            logs.append(float(mp.log(dimension(l, dim) * bessel) - k))
    assert torch.exp(kernel.log_weights()).tolist() == pytest.approx(
        [math.exp(v) for v in logs], rel=2e-12, abs=1e-300
    )
    assert kernel.log_mean == pytest.approx(logs[0], rel=1e-13)


def test_von_mises_fisher_series_is_its_exponential():
    for dim, concentration in ((2, 5.0), (3, 50.0), (64, 20.0), (512, 100.0)):
        kernel = VonMisesFisherKernel(dim, concentration)
        series_value = gegenbauer(cosines(), kernel.max_degree, dim) @ kernel.weights()
        torch.testing.assert_close(series_value, kernel(cosines()), rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="concentration must lie in"):
        VonMisesFisherKernel(8, 0.0)


# -- Stein


@pytest.mark.parametrize(
    "base",
    [
        HeatKernel(2),
        HeatKernel(3, concentration=0.5),
        HeatKernel(64, time=2 / 64),
        BandlimitedKernel(8, 4),
        VonMisesFisherKernel(512, 25.0),
        InducedKernel(2048),
        JacksonKernel(16, 6),
    ],
    ids=repr,
)
def test_stein_spectrum_is_the_derivative_formula(base: ZonalKernel):
    kernel, d, c = stein(base), base.dim, cosines()
    formula = (d - 1) * c * base.derivative(c, 1) - (1 - c * c) * base.derivative(c, 2)
    formula = formula / ((d - 1) * base.derivative(c[-1:], 1))
    scale = float(base.derivative(c[-1:], 2) / ((d - 1) * base.derivative(c[-1:], 1)))
    torch.testing.assert_close(kernel(c), formula, rtol=0, atol=1e-12 * max(1.0, scale))
    p, q = base.weights(), kernel.weights()
    l = torch.arange(p.numel(), dtype=torch.float64)
    raised = l * (l + d - 2) * p
    torch.testing.assert_close(q, raised / raised.sum(), rtol=1e-12, atol=1e-300)
    assert kernel.mean == 0.0
    assert kernel.log_mean == -math.inf
    t, w = marginal_quadrature(d, 300)
    assert abs(float(w @ kernel(t))) < 1e-13


@pytest.mark.parametrize("dim", [2, 3, 64])
def test_stein_of_heat_is_its_cooling(dim):
    """psi = - d kappa_t / dt up to its scale, by a central difference of the unscaled kernel."""
    time, step = 2 / dim, 1e-4 / dim
    later, earlier = HeatKernel(dim, time=time + step), HeatKernel(dim, time=time - step)
    c = cosines()
    cooling = earlier(c) / earlier.mean - later(c) / later.mean
    torch.testing.assert_close(stein(HeatKernel(dim, time=time))(c), cooling / cooling[-1], rtol=0, atol=1e-6)


def test_stein_refuses_what_is_no_kernel_and_what_has_no_logarithm():
    with pytest.raises(TypeError, match="stein takes a kernel"):
        stein(torch.zeros(3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="not positive"):
        stein(HeatKernel(8)).log(torch.zeros(1))


# -- Jackson and Fejér


@pytest.mark.parametrize("dim", DIMS)
def test_jackson_of_degree_two_is_a_square_of_a_line(dim):
    kernel = JacksonKernel(dim, 2, floor=0.0)
    torch.testing.assert_close(
        kernel(cosines()),
        (1 + math.sqrt(dim) * cosines()) ** 2 / (1 + math.sqrt(dim)) ** 2,
        rtol=0,
        atol=1e-13,
    )
    p = kernel.weights()
    a = [float(p[l] / p[0]) / math.exp(math.log(float(dimension(l, dim)))) for l in range(3)]
    assert a == pytest.approx([1, 1 / math.sqrt(dim), 1 / (dim + 2) if dim > 2 else 1 / 4], rel=1e-12)


@pytest.mark.parametrize("max_degree", [2, 6, 20])
@pytest.mark.parametrize("dim", [2, 3, 8, 64, 512])
def test_jackson_has_the_largest_first_coefficient(dim, max_degree):
    m = max_degree // 2
    p = JacksonKernel(dim, max_degree, floor=0.0).weights()
    zero = (
        special.roots_chebyt(m + 1)[0][-1]
        if dim == 2
        else special.roots_gegenbauer(m + 1, (dim - 2) / 2)[0][-1]
    )
    first = float(p[1] / p[0]) / float(dimension(1, dim))
    assert first == pytest.approx(float(zero), rel=1e-11)
    q = FejerKernel(dim, max_degree, floor=0.0).weights()
    assert float(q[1] / q[0]) / float(dimension(1, dim)) < first


def test_numbers_of_fejer():
    p = FejerKernel(64, 2, floor=0.0).weights()
    assert float(p[1] / p[0]) / 64 == pytest.approx(0.031, abs=5e-4)
    assert 1 / float(p[0]) == pytest.approx(65)  # kappa(1) = sum of the dimensions
    angle = torch.linspace(0.1, 3.1, 9, dtype=torch.float64)
    m = 4
    classical = (torch.sin((m + 0.5) * angle) / torch.sin(angle / 2) / (2 * m + 1)) ** 2
    torch.testing.assert_close(
        FejerKernel(2, 2 * m, floor=0.0)(torch.cos(angle)), classical, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("family", [JacksonKernel, FejerKernel])
@pytest.mark.parametrize(("dim", "max_degree"), [(2, 4), (3, 10), (64, 6), (512, 2), (256, 10)])
def test_floor_is_a_mixture_with_the_uniform_density(family, dim, max_degree):
    pure, mixed = family(dim, max_degree, floor=0.0), family(dim, max_degree, floor=0.01)
    c = torch.linspace(-1, 1, 201, dtype=torch.float64)
    density = 0.99 * pure(c) / pure.mean + 0.01
    largest = float(density[-1])
    torch.testing.assert_close(mixed(c) / mixed.mean, density, rtol=0, atol=1e-12 * largest)
    log_density = mixed.log(c) - mixed.log_mean
    assert float(log_density.min()) >= math.log(0.01) - 1e-12
    seen = density > 1e-6 * largest
    torch.testing.assert_close(log_density[seen], density[seen].log(), rtol=0, atol=1e-9)
    single = mixed.log(c.float()) - mixed.log_mean
    torch.testing.assert_close(
        single.double(), mixed.log(c.float().double()) - mixed.log_mean, rtol=0, atol=2e-5
    )
    t, w = marginal_quadrature(dim, 3 * max_degree + 2)
    assert float(w @ torch.exp(mixed.log(t) - mixed.log_mean)) == pytest.approx(1, abs=1e-11)
    with pytest.raises(ValueError, match="with a floor"):
        pure.log(c)


def test_squares_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="even, 2 to 400"):
        JacksonKernel(8, 3)
    with pytest.raises(ValueError, match="even, 2 to 400"):
        FejerKernel(8, 0)
    with pytest.raises(ValueError, match="makes an identity matrix"):
        JacksonKernel(256, 60)
    with pytest.raises(ValueError, match="floor must lie in"):
        FejerKernel(8, 2, floor=1.0)
