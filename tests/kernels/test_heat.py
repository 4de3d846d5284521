"""The heat kernel against mpmath, theta functions, the recursion in dimension, and the papers' numbers."""

import math

import mpmath as mp
import pytest
import torch

from isosphere.kernels import HeatKernel
from tests.kernels.references import dimension, heat_terms, series

DIMS = [2, 3, 4, 8, 64, 512, 2048]
COSINES = [-1.0, -0.99, -0.5, -0.03, 0.0, 0.3, 0.9, 1.0]


def cosines() -> torch.Tensor:
    return torch.tensor(COSINES, dtype=torch.float64)


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("dim", DIMS)
def test_values_and_derivatives(dim, sharp):
    kernel = HeatKernel(dim, time=(2 if dim <= 512 else 3) / dim) if sharp else HeatKernel(dim)
    with mp.workdps(60):
        terms = heat_terms(dim, kernel.time)
        for order in range(5) if dim <= 64 else (0, 2):
            expected = [float(series(terms, c, dim, order)) for c in COSINES]
            values = kernel.derivative(cosines(), order)
            assert values.tolist() == pytest.approx(expected, rel=0, abs=1e-12 * abs(expected[-1]))
            single = kernel.derivative(cosines().float(), order)
            assert single.dtype == torch.float32
            rounded = kernel.derivative(cosines().float().double(), order)
            assert single.tolist() == pytest.approx(rounded.tolist(), rel=0, abs=2e-6 * abs(expected[-1]))


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("dim", DIMS)
def test_weights(dim, sharp):
    kernel = HeatKernel(dim, time=2 / dim) if sharp else HeatKernel(dim)
    with mp.workdps(60):
        terms = heat_terms(dim, kernel.time)
        total = mp.fsum(terms)
        p = kernel.weights()
        expected = [float(v / total) for v in terms[: p.numel()]]
        chi2 = float(mp.fsum(v * v / dimension(l, dim) for l, v in enumerate(terms[:120]) if l) / total**2)
        tail = mp.fsum(terms[p.numel() :]) / total
        longer = mp.fsum(terms[p.numel() - 1 :]) / total
    assert p.tolist() == pytest.approx(expected, rel=1e-12)
    assert kernel.mean == pytest.approx(expected[0], rel=1e-12)
    assert kernel.log_mean == pytest.approx(float(mp.log(terms[0] / total)), rel=1e-13)
    assert kernel.pair_variance == pytest.approx(chi2, rel=1e-12)
    assert tail <= 1e-24  # the bound holds ...
    assert longer > 1e-25  # ... and is not loose


@pytest.mark.parametrize(
    ("dim", "time"),
    [
        *((d, 2 / d) for d in (2, 3, 4, 8, 64, 128, 256, 512)),
        (2048, 4 / 2048),
        *((d, None) for d in (2, 3, 8, 64, 512, 4096)),
        *((2, t) for t in (1.0, 0.1, 0.02)),
        *((3, t) for t in (0.3, 0.03)),
        (8, 0.05),
        (64, 0.01),
        (512, 0.004),
    ],
)
def test_logarithm_is_exact_up_to_the_antipode(dim, time):
    kernel = HeatKernel(dim, time=time)
    points = [-1.0, -1 + 1e-9, -1 + 1e-5, -0.9, -0.3, 0.0, 0.99, 1.0] if dim <= 512 else [-1.0, -0.3, 0.99]
    digits = 30 + max(0, int(-float(kernel.log(torch.tensor(-1.0).double())) / 2.3))
    with mp.workdps(digits):
        terms = heat_terms(dim, kernel.time)
        value = [[series(terms, c, dim, order) for c in points] for order in (0, 1)]
        expected = torch.tensor([float(mp.log(v)) for v in value[0]], dtype=torch.float64)
        slope = torch.tensor([float(u / v) for v, u in zip(*value, strict=True)], dtype=torch.float64)
    c = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    log = kernel.log(c)
    torch.testing.assert_close(log, expected, rtol=1e-14, atol=1e-25)
    (gradient,) = torch.autograd.grad(log.sum(), c)
    # Next to the antipode of a sharp kernel the slope is ill-conditioned: the rounding of c shows in it.
    visible = 1e-15 / kernel.log_profile().width ** 2 if kernel.time < 0.1 else 0.0
    torch.testing.assert_close(gradient, slope, rtol=1e-12 + visible, atol=1e-13 * float(slope.max()))
    single = kernel.log(c.detach().float())
    torch.testing.assert_close(single.double(), kernel.log(c.detach().float().double()), rtol=3e-6, atol=0)


def test_no_float_could_have_given_that():
    """At d = 512, t = 2/d the float64 series is negative or wrong at the antipode, where log phi is -158."""
    kernel = HeatKernel(512, time=2 / 512)
    antipode = torch.tensor([-1.0], dtype=torch.float64)
    assert float(kernel.log(antipode)) == pytest.approx(-158.44379185285322, rel=1e-14)
    assert abs(float(kernel(antipode)) / math.exp(-158.44379185285322) - 1) > 1


@pytest.mark.parametrize("time", [2.0, 0.4, 0.05, 0.01])
def test_circle_is_a_theta_function(time):
    angle = torch.linspace(0, math.pi, 33, dtype=torch.float64)
    turns = 2 * math.pi * torch.arange(-8, 9, dtype=torch.float64)
    logs = -((angle[:, None] + turns) ** 2) / (4 * time)
    expected = torch.logsumexp(logs, 1) - torch.logsumexp(logs[:1], 1)
    kernel = HeatKernel(2, time=time)
    log = kernel.log(torch.cos(angle))
    # arccos is ill-conditioned at the ends: a rounding of c is a visible angle there.
    torch.testing.assert_close(log[4:-4], expected[4:-4], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        kernel(torch.cos(angle)), torch.exp(expected), rtol=0, atol=1e-14 / min(time, 1.0)
    )


@pytest.mark.parametrize("time", [0.5, 0.1, 0.02])
def test_three_sphere_is_the_slope_of_a_theta_function(time):
    angle = torch.linspace(0.3, 2.8, 21, dtype=torch.float64)
    turns = 2 * math.pi * torch.arange(-8, 9, dtype=torch.float64)
    theta = angle[:, None] + turns
    unscaled = (theta * torch.exp(-(theta**2) / (4 * time))).sum(1) / torch.sin(angle)
    kernel = HeatKernel(4, time=time)
    log = kernel.log(torch.cos(angle))
    torch.testing.assert_close(log - log[0], torch.log(unscaled / unscaled[0]), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 62, 510])
def test_derivative_is_the_kernel_two_dimensions_up(dim):
    time = 3 / dim
    c = torch.linspace(-1, 1, 11, dtype=torch.float64)
    lower, upper = HeatKernel(dim, time=time), HeatKernel(dim + 2, time=time)
    slope = lower.derivative(c)
    torch.testing.assert_close(slope / slope[-1], upper(c), rtol=0, atol=1e-13)


def test_numbers_of_the_papers():
    assert math.exp(-HeatKernel(256, time=5 / 256).log_mean) == pytest.approx(5.520, abs=5e-4)
    assert HeatKernel(256, time=5 / 256).mean == pytest.approx(0.18115, abs=5e-6)
    assert math.exp(-HeatKernel(256, time=4 / 256).log_mean) == pytest.approx(89.09, abs=5e-3)
    assert math.exp(-HeatKernel(256, time=6 / 256).log_mean) == pytest.approx(1.8983, abs=5e-5)
    assert math.exp(-HeatKernel(256, time=2 / 256).log_mean) == pytest.approx(7.72e12, rel=1e-3)
    one = torch.ones(1, dtype=torch.float64)
    assert float(HeatKernel(256, time=5 / 256).derivative(one)) == pytest.approx(1.6711, abs=5e-5)
    assert float(HeatKernel(256, time=2 / 256).derivative(one)) == pytest.approx(28.3, abs=5e-2)
    assert HeatKernel(256).time == pytest.approx(5 / 256, rel=2e-3)


def test_concentration_and_time_are_one_parameter():
    assert HeatKernel(64) == HeatKernel(64, concentration=1.76)
    kernel = HeatKernel(64, concentration=3.0)
    assert kernel.concentration == pytest.approx(3.0)
    assert kernel == HeatKernel(64, time=kernel.time)
    p = kernel.weights()
    assert float(p[1] / p[0]) == pytest.approx(3.0)
    c = torch.linspace(-1, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(HeatKernel(4096, concentration=1.0)(c), torch.exp(c - 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dim", [3, 64, 512])
@pytest.mark.parametrize("concentration", [1e-6, 0.1, 2.5])
def test_logarithm_is_that_of_the_value_where_nothing_cancels(dim, concentration):
    kernel = HeatKernel(dim, concentration=concentration)
    c = torch.linspace(-1, 1, 51, dtype=torch.float64)
    torch.testing.assert_close(torch.exp(kernel.log(c)), kernel(c), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 8, "time": 0.1, "concentration": 1.0}, "got both a concentration and a time"),
        ({"dim": 8, "time": 0.0}, "time must be positive"),
        ({"dim": 8, "time": math.nan}, "time must be positive"),
        ({"dim": 512, "time": 0.2}, "a constant kernel"),
        ({"dim": 8, "concentration": 8.0}, r"concentration must lie in"),
        ({"dim": 8, "concentration": -1.0}, r"concentration must lie in"),
        ({"dim": 1}, "dim must be at least 2"),
    ],
)
def test_senseless_parameters_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        HeatKernel(**arguments)


def test_too_sharp_a_kernel_is_refused_where_it_is_used():
    with pytest.raises(ValueError, match="close to an identity matrix"):
        HeatKernel(3, time=1e-8).weights()
    with pytest.raises(ValueError, match="too sharp for a logarithm"):
        HeatKernel(3, time=1e-5).log(torch.zeros(1))
