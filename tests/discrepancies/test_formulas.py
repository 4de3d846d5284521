"""Each statistic against its formula written out, and the identities between them."""

import math

import pytest
import torch

from isosphere.discrepancies import KL, KSD, MMD, Mixture, SIGReg, SUSReg
from isosphere.kernels import BandlimitedKernel, HeatKernel, InducedKernel, VonMisesFisherKernel
from isosphere.sphere import marginal_cf, normalize

DIMS = [2, 3, 4, 8, 64, 512, 2048]


def points(n, dim, shift=0.2):
    return normalize(torch.randn(n, dim, dtype=torch.float64) + shift / dim**0.5)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kernel", [HeatKernel, BandlimitedKernel, InducedKernel, VonMisesFisherKernel])
@pytest.mark.parametrize("n", [5, 90])
def test_mmd(kernel, dim, n):
    kernel, z = kernel(dim), points(n, dim)
    phi = kernel(z @ z.T)
    v = (phi.mean() - kernel.mean) / (1 - kernel.mean)
    off = (phi.sum() - phi.diagonal().sum()) / (n * (n - 1))
    u = (off - kernel.mean) / (1 - kernel.mean)
    torch.testing.assert_close(MMD(kernel)(z), v, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(MMD(kernel, "u")(z), u, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kernel", [HeatKernel, BandlimitedKernel])
def test_ksd_is_the_derivative_formula(kernel, dim):
    kernel, z = kernel(dim), points(30, dim)
    c = z @ z.T
    one = torch.ones((), dtype=torch.float64)
    stein = (c.square() - 1) * kernel.derivative(c, 2) + (dim - 1) * c * kernel.derivative(c, 1)
    expected = (stein / ((dim - 1) * kernel.derivative(one, 1))).mean()
    torch.testing.assert_close(KSD(kernel)(z), expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kernel", [HeatKernel, VonMisesFisherKernel])
def test_kl(kernel, dim):
    kernel, z = kernel(dim), points(20, dim)
    logs = kernel.log(z @ z.T)
    own = torch.eye(20, dtype=torch.bool)
    nats = logs.masked_fill(own, -torch.inf).logsumexp(1).mean() - math.log(19) - kernel.log_mean
    full = logs.logsumexp(1).mean() - math.log(20) - kernel.log_mean
    torch.testing.assert_close(KL(kernel, scale="nats")(z), nats, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(KL(kernel)(z), nats / -kernel.log_mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(KL(kernel, False, "nats")(z), full, rtol=1e-10, atol=1e-12)


def test_kl_paper_scale_has_its_printed_constants():
    kl = KL(HeatKernel(256, time=2 / 256), scale="paper")
    one = points(1, 256)
    assert kl(one.expand(40, -1)).item() == pytest.approx(1)
    # the uniform population: mean log density = log p_0
    assert 1 + kl.kernel.log_mean / kl.unit == pytest.approx(0.914, abs=5e-4)
    with pytest.raises(ValueError, match="use scale='unit'"):
        KL(HeatKernel(8), scale="paper")


def test_mmd_numbers_printed_in_the_paper():
    kernel = HeatKernel(256, time=5 / 256)
    one = torch.ones((), dtype=torch.float64)
    assert kernel.mean == pytest.approx(0.18115, abs=5e-6)
    assert kernel.derivative(one).item() == pytest.approx(1.6711, abs=5e-5)
    assert 1 / BandlimitedKernel(256).mean == pytest.approx(33152, abs=0.5)


@pytest.mark.parametrize("target", ["exact", "gaussian"])
@pytest.mark.parametrize("dim", [3, 16, 300])
def test_susreg_written_out(dim, target):
    n, test = 25, SUSReg(dim, num_slices=40, target=target, seed=3)
    z = points(n, dim)
    s = torch.linspace(-5, 5, 17, dtype=torch.float64)
    trapezoid = torch.full((17,), 0.625, dtype=torch.float64)
    trapezoid[[0, -1]] /= 2
    cf = marginal_cf((s * dim**0.5).abs(), dim) if target == "exact" else torch.exp(-s.square() / 2)
    x = dim**0.5 * z @ test.directions(z).T
    ecf = torch.exp(1j * x[..., None] * s).mean(0)
    expected = n * (((ecf - cf).abs().square() * torch.exp(-s.square() / 2)) @ trapezoid).mean()
    torch.testing.assert_close(test(z), expected, rtol=1e-11, atol=0)


def test_sigreg_written_out_and_its_closed_integral():
    n, dim = 30, 6
    test = SIGReg(dim, num_slices=50)
    z = torch.randn(n, dim, dtype=torch.float64) * 1.3
    x = z @ test.directions(z).T
    gap = x[:, None] - x[None]
    exact = math.sqrt(2 * math.pi) * (
        torch.exp(-gap.square() / 2).sum((0, 1)) / n
        - math.sqrt(2) * torch.exp(-x.square() / 4).sum(0)
        + n / math.sqrt(3)
    )
    # the trapezoid rule on [-5, 5] against the integral over the line
    torch.testing.assert_close(test(z), exact.mean(), rtol=5e-4, atol=0)


def check_mean_over_directions(test, z, exact, rtol):
    """A long run of slices approaches the mean over all directions; those of the circle can be integrated outright."""
    draws = []
    for _ in range(12):
        draws.append(test(z))
        test.after_step()
    values = torch.stack(draws)
    error = values.std() / len(draws) ** 0.5
    assert abs(values.mean() - exact) < 4 * error
    assert error < 0.05 * exact
    if test.dim == 2:
        angle = torch.arange(512, dtype=torch.float64) * math.pi / 256
        circle = torch.stack([angle.cos(), angle.sin()], 1)
        test.num_slices = len(circle)
        test._directions, test._directions_key = circle, (test._draw, z.device, z.dtype)
        torch.testing.assert_close(test(z), exact, rtol=rtol, atol=0)


@pytest.mark.parametrize("dim", [2, 3, 8, 64])
def test_susreg_averaged_over_directions_is_an_mmd(dim):
    """Theorem: with one rule, E_a SUSReg = n * sum(weights) * (1 - p_0) * MMD."""
    n, test = 12, SUSReg(dim, num_slices=4096)
    z = points(n, dim, shift=1.0)
    kernel = test.kernel()
    exact = n * test._rule.sum() * (1 - kernel.mean) * MMD(kernel)(z)
    check_mean_over_directions(test, z, exact, rtol=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 8, 64])
def test_sigreg_averaged_over_directions_is_the_mmd_to_a_gaussian(dim):
    """The same theorem off the sphere: E_a cos(s <a, x - y>) is the characteristic function of a coordinate."""
    n, test = 12, SIGReg(dim, num_slices=4096)
    s, weights = test._points, test._rule
    z = torch.randn(n, dim, dtype=torch.float64) * 0.7 + 0.5

    def kernel(distance, damping=0.0):
        return marginal_cf(distance[..., None] * s, dim) @ (weights * torch.exp(-damping * s.square()))

    to_gaussian = kernel(z.norm(dim=1), 0.5)  # its mean over one argument that is normal, and over both
    both = kernel(torch.zeros((), dtype=torch.float64), 1.0)
    drawn = kernel(torch.cdist(z, torch.randn(4000, dim, dtype=torch.float64)))
    assert ((drawn.mean(1) - to_gaussian).abs() < 5 * drawn.std(1) / 4000**0.5).all()
    exact = n * (kernel(torch.cdist(z, z)).mean() - 2 * to_gaussian.mean() + both)
    check_mean_over_directions(test, z, exact, rtol=1e-9)


def test_directions_move_in_training_only_and_ignore_the_global_generator():
    test, z = SUSReg(4, num_slices=3), points(5, 4)
    torch.manual_seed(1)
    first = test.directions(z)
    torch.manual_seed(2)
    assert torch.equal(SUSReg(4, num_slices=3).directions(z), first)
    test.eval().after_step()
    assert torch.equal(test.directions(z), first)
    test.train().after_step()
    assert not torch.equal(test.directions(z), first)
    other = SUSReg(4, num_slices=3)
    other.load_state_dict(test.state_dict())
    assert torch.equal(other.directions(z), test.directions(z))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SUSReg(1), "at least 2"),
        (lambda: SUSReg(4, knots=16), "odd"),
        (lambda: SUSReg(4, num_slices=0), "at least 1"),
        (lambda: SUSReg(4, reach=0.0), "positive"),
        (lambda: SUSReg(4, target="normal"), "'exact' or 'gaussian'"),
        (lambda: MMD(HeatKernel(4), "w"), "'v'"),
        (lambda: KL(HeatKernel(4), scale="bits"), "unit"),
        (lambda: KL(HeatKernel(4))(torch.ones(1, 4) / 2), "leave_one_out=False"),
        (lambda: MMD(HeatKernel(4), "u")(torch.ones(1, 4) / 2), "expected at least 2"),
    ],
)
def test_wrong_arguments_are_refused_in_words(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_a_mixture_is_the_mean_of_its_parts_and_hands_on_its_group():
    z, parts = points(20, 8), (MMD(HeatKernel(8)), KL(VonMisesFisherKernel(8)), SUSReg(8, num_slices=16))
    mixture = Mixture(parts, (1, 2, 5))
    expected = (parts[0](z) + 2 * parts[1](z) + 5 * parts[2](z)) / 8
    torch.testing.assert_close(mixture(z), expected, rtol=1e-12, atol=0)
    mixture.group = False
    assert all(part.group is False for part in mixture.parts)
    before = parts[2].directions(z)
    mixture.after_step()
    assert not torch.equal(parts[2].directions(z), before)


@pytest.mark.parametrize(
    ("parts", "shares"),
    [
        ([MMD(HeatKernel(8))], None),
        ([MMD(HeatKernel(8)), KL(HeatKernel(8))], (1, 0)),
        ([MMD(HeatKernel(8)), KL(HeatKernel(9))], None),
        ([MMD(HeatKernel(8)), SIGReg(8)], None),
    ],
)
def test_what_cannot_be_mixed_is_refused(parts, shares):
    with pytest.raises(ValueError, match="expected"):
        Mixture(parts, shares)
