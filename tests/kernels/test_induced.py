"""The kernel of averaged slices against hypergeometric functions, and the theorem that it is for."""

import math

import mpmath as mp
import pytest
import torch

from isosphere.kernels import InducedKernel
from isosphere.sphere import marginal_cf, marginal_quadrature, sample_uniform
from tests.kernels.references import dimension

DIMS = [2, 3, 4, 8, 64, 512, 2048]
COSINES = [-1.0, -0.8, -0.1, 0.0, 0.35, 0.97, 1.0]


def cosines() -> torch.Tensor:
    return torch.tensor(COSINES, dtype=torch.float64)


def rule(dim: int, knots: int = 9, reach: float = 5.0) -> tuple[list[float], list[float]]:
    """The half of SUSReg's rule: trapezoid on [0, reach] with a Gaussian window, projections scaled by sqrt(d)."""
    step = reach / (knots - 1)
    s = [math.sqrt(dim) * step * k for k in range(knots)]
    w = [
        step * math.exp(-((step * k) ** 2) / 2) * (0.5 if k in (0, knots - 1) else 1.0) for k in range(knots)
    ]
    return s, w


@pytest.mark.parametrize("bandwidth", [None, 1.0, 30.0])
@pytest.mark.parametrize("dim", DIMS)
def test_window_is_kummers_function(dim, bandwidth):
    kernel = InducedKernel(dim, bandwidth=bandwidth)
    g = bandwidth or math.sqrt(dim)
    with mp.workdps(40):
        expected, slope = [], []
        for c in COSINES:
            z = -(mp.mpf(g) ** 2) * (1 - mp.mpf(c))
            expected.append(float(mp.hyp1f1(0.5, mp.mpf(dim) / 2, z)))
            slope.append(float(mp.mpf(g) ** 2 / dim * mp.hyp1f1(1.5, mp.mpf(dim) / 2 + 1, z)))
    assert kernel(cosines()).tolist() == pytest.approx(expected, rel=0, abs=1e-13)
    assert kernel.derivative(cosines()).tolist() == pytest.approx(slope, rel=0, abs=1e-12 * slope[-1])
    assert kernel.log(cosines()).tolist() == pytest.approx(
        [math.log(v) for v in expected], rel=1e-12, abs=1e-13
    )
    assert kernel(cosines().float()).tolist() == pytest.approx(
        expected, rel=0, abs=1e-6 * max(1.0, slope[-1])
    )


@pytest.mark.parametrize("dim", DIMS)
def test_rule_is_a_sum_of_bessel_functions(dim):
    s, w = rule(dim)
    kernel = InducedKernel(dim, knots=s, weights=w)
    with mp.workdps(60):
        expected = []
        for c in COSINES:
            squared = 2 - 2 * mp.mpf(c)
            terms = [
                v * mp.hyp0f1(mp.mpf(dim) / 2, -(mp.mpf(k) ** 2) * squared / 4)
                for k, v in zip(s, w, strict=True)
            ]
            expected.append(float(mp.fsum(terms) / mp.fsum(w)))
    assert kernel(cosines()).tolist() == pytest.approx(expected, rel=0, abs=1e-13)
    p = kernel.weights()
    mean = sum(
        v * float(marginal_cf(torch.tensor(k, dtype=torch.float64), dim)) ** 2
        for k, v in zip(s, w, strict=True)
    ) / sum(w)
    assert float(p[0]) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("dim", "bandwidth"), [(2, 1.0), (3, 2.5), (8, 3.0), (64, 8.0), (512, 6.0)])
def test_window_weights_are_hypergeometric(dim, bandwidth):
    p = InducedKernel(dim, bandwidth=bandwidth).weights()
    g, h = mp.mpf(bandwidth), mp.mpf(dim) / 2
    with mp.workdps(80):
        for l in range(9):
            a = (g**2 / 2) ** l * mp.rf(0.5, l) / mp.rf(h, l) ** 2
            if dim == 2 and l == 0:  # (d-1)/2 = l + 1/2 and d - 1 = 2l + d - 1 leave a 1F1-like pair
                a *= mp.hyp2f2(0.5, 0.5, 1, 1, -2 * g**2)
            else:
                a *= mp.hyp2f2(l + 0.5, l + h - 0.5, l + h, 2 * l + dim - 1, -2 * g**2)
            assert float(p[l]) == pytest.approx(float(a * dimension(l, dim)), rel=1e-12)


@pytest.mark.parametrize("dim", DIMS)
def test_window_and_rule_weights_give_the_mean_and_sum_to_one(dim):
    s, w = rule(dim, 17)
    for kernel in (InducedKernel(dim), InducedKernel(dim, knots=s, weights=w)):
        t, mass = marginal_quadrature(dim, 200)
        p = kernel.weights()
        assert float(p.sum()) == pytest.approx(1, abs=1e-14)
        assert bool((p >= 0).all())
        assert kernel.mean == pytest.approx(float(mass @ kernel(t)), rel=1e-12)
        assert kernel.pair_variance == pytest.approx(float(mass @ (kernel(t) - kernel.mean) ** 2), rel=1e-11)


def test_a_fine_rule_is_the_window():
    for dim in (2, 8, 256):
        s, w = rule(dim, 400, 9.0)
        fine = InducedKernel(dim, knots=s, weights=w)
        torch.testing.assert_close(fine(cosines()), InducedKernel(dim)(cosines()), rtol=0, atol=1e-12)


def test_high_dimension_is_an_inverse_multiquadric():
    expected = (1 + 2 * (1 - cosines())) ** -0.5
    torch.testing.assert_close(InducedKernel(4096)(cosines()), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("dim", "bandwidth"), [(2, 1e-3), (3, 100.0), (64, 0.05), (512, 100.0)])
def test_extreme_bandwidths(dim, bandwidth):
    kernel = InducedKernel(dim, bandwidth=bandwidth)
    with mp.workdps(40):
        expected = [
            float(mp.hyp1f1(0.5, mp.mpf(dim) / 2, -(mp.mpf(bandwidth) ** 2) * (1 - mp.mpf(c))))
            for c in COSINES
        ]
    assert kernel(cosines()).tolist() == pytest.approx(expected, rel=0, abs=1e-12)


def test_average_of_slices_is_the_mmd_on_the_circle():
    """Directions integrated exactly (a trapezoid of a periodic function): SUSReg's mean is the kernel's MMD."""
    s, w = rule(2)
    n = 7
    z = sample_uniform(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    angle = torch.arange(256, dtype=torch.float64) * (2 * math.pi / 256)
    projected = z @ torch.stack([torch.cos(angle), torch.sin(angle)])
    statistic = torch.zeros(256, dtype=torch.float64)
    for frequency, weight in zip(s, w, strict=True):
        ecf = torch.exp(1j * frequency * projected).mean(0)
        target = marginal_cf(torch.tensor(frequency, dtype=torch.float64), 2)
        statistic += n * weight * (ecf - target).abs() ** 2
    kernel = InducedKernel(2, knots=s, weights=w)
    mmd = (kernel(z @ z.mT).mean() - kernel.mean) / (1 - kernel.mean)
    assert float(statistic.mean()) == pytest.approx(float(n * sum(w) * (1 - kernel.mean) * mmd), rel=1e-12)


def test_one_rule_in_different_spellings_is_one_kernel():
    a = InducedKernel(8, knots=[-2.0, 0.0, 2.0, 5.0], weights=[1.0, 2.0, 1.0, 0.0])
    b = InducedKernel(8, knots=torch.tensor([2.0, 0.0]), weights=torch.tensor([1.0, 1.0]))
    assert a == b
    assert hash(a) == hash(b)


def test_a_rule_of_few_cosines_on_the_circle_has_no_logarithm():
    kernel = InducedKernel(2, knots=[3.0], weights=[1.0])
    assert not kernel.is_positive
    with pytest.raises(ValueError, match="not positive"):
        kernel.log(torch.zeros(1))
    s, w = rule(64)
    positive = InducedKernel(64, knots=s, weights=w)
    c = torch.linspace(-1, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(positive.log(c), positive(c).log(), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bandwidth": 0.0}, "bandwidth must lie in"),
        ({"bandwidth": 1e5}, "bandwidth must lie in"),
        ({"knots": [1.0]}, "half a rule"),
        ({"weights": [1.0]}, "half a rule"),
        ({"knots": [1.0], "weights": [1.0], "bandwidth": 2.0}, "a bandwidth and a rule"),
        ({"knots": [1.0, 2.0], "weights": [1.0]}, "one length"),
        ({"knots": [], "weights": []}, "one length"),
        ({"knots": [1.0], "weights": [-1.0]}, "nonnegative"),
        ({"knots": [math.inf], "weights": [1.0]}, "must be finite"),
        ({"knots": [0.0, 1.0], "weights": [1.0, 0.0]}, "sees only frequency 0"),
    ],
)
def test_senseless_parameters_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        InducedKernel(8, **arguments)


def test_too_high_a_frequency_is_refused_where_it_is_used():
    with pytest.raises(ValueError, match="lower the reach or scale"):
        InducedKernel(3, knots=[1e5], weights=[1.0]).weights()


def test_the_papers_printed_kernel_is_that_of_bandwidth_1_and_its_figure_that_of_the_root_of_d():
    """2606.17603, equation 4: the integral of exp(-(1 - c) t^2) over rho_d; its figure falls to about .45."""
    points, weights = marginal_quadrature(256, 64)
    c = torch.linspace(-1, 1, 9, dtype=torch.float64)
    printed = (torch.exp(-(1 - c)[:, None] * points.square()) * weights).sum(-1)
    torch.testing.assert_close(InducedKernel(256, bandwidth=1.0)(c), printed)
    assert printed[0].item() == pytest.approx(0.992, abs=1e-3)
    assert InducedKernel(256)(c)[0].item() == pytest.approx(0.446, abs=1e-3)
