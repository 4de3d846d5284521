"""Uniformity, KoLeo, Rayleigh, Bingham and hyperspherical energies against brute force and known configurations."""

import math

import mpmath
import pytest
import torch
from torch import nn

from isosphere.discrepancies import (
    MMD,
    Bingham,
    HypersphericalEnergy,
    KoLeo,
    Rayleigh,
    Uniformity,
    network_energy,
)
from isosphere.kernels import VonMisesFisherKernel
from isosphere.sphere import gegenbauer, log_harmonic_dimension, normalize


def points(n, dim):
    return normalize(torch.randn(n, dim, dtype=torch.float64) + 0.2)


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_energies_of_coincident_rows_have_one_floor(power, half_space):
    z = points(6, 4)
    z[1], z[3] = z[0], -z[2]
    energy = HypersphericalEnergy(power, half_space)
    assert energy(z).isfinite()
    torch.testing.assert_close(energy.reference(z), energy(z))


@pytest.mark.parametrize("t", [0.5, 2.0, 3.0])
def test_uniformity_is_wang_and_isolas(t):
    z = points(40, 5)
    expected = torch.pdist(z).pow(2).mul(-t).exp().mean().log()
    torch.testing.assert_close(Uniformity(t)(z), expected, rtol=1e-12, atol=0)


def test_uniformity_is_a_logarithm_of_an_mmd():
    z, kernel = points(40, 6), VonMisesFisherKernel(6, concentration=4.0)
    mean = MMD(kernel, "u")(z) * (1 - kernel.mean) + kernel.mean
    torch.testing.assert_close(Uniformity(2.0)(z), mean.log(), rtol=1e-11, atol=0)


def test_uniformity_at_its_population_minimum():
    # -2t + log 0F1(; d/2; t^2), PAPERS/MATHEMATICS: at t = 2, d = 256
    minimum = -4 + float(mpmath.log(mpmath.hyp0f1(128, 4)))
    assert minimum == pytest.approx(-3.969, abs=5e-4)
    assert Uniformity(dim=256).null(2000).mean == pytest.approx(minimum, abs=2e-3)


def test_koleo_value_and_gradient():
    z = points(30, 4).requires_grad_()
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = (distance + 10 * torch.eye(30)).argmin(1)
    expected = -(z - z[nearest]).norm(dim=1).log().mean()
    value = KoLeo()(z)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    a, b = (torch.autograd.grad(v, z)[0] for v in (value, expected))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_koleo_of_coincident_rows_is_its_documented_limit():
    z = points(1, 4).expand(5, 4).clone().requires_grad_()
    value = KoLeo(1e-8)(z)
    value.backward()
    assert value.item() == pytest.approx(-math.log(1e-8))
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.parametrize("dim", [2, 3, 8, 64])
@pytest.mark.parametrize(("test", "degree"), [(Rayleigh(), 1), (Bingham(), 2)], ids=["rayleigh", "bingham"])
def test_moment_tests_are_sums_of_harmonics(test, degree, dim):
    n, z = 25, points(25, dim)
    harmonics = gegenbauer(z @ z.T, degree, dim)[..., degree] * math.exp(log_harmonic_dimension(degree, dim))
    torch.testing.assert_close(test(z), n * harmonics.mean(), rtol=1e-9, atol=1e-9)


CUBE = (
    torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64) / 3**0.5
)
OCTAHEDRON = torch.cat([torch.eye(3), -torch.eye(3)]).double()
TETRAHEDRON = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64) / 3**0.5


@pytest.mark.parametrize(("solid", "thomson"), [(TETRAHEDRON, 3.674234614), (OCTAHEDRON, 9.985281374)])
def test_thomson_energies(solid, thomson):
    n = len(solid)
    assert HypersphericalEnergy(1)(solid).item() * n * (n - 1) / 2 == pytest.approx(thomson, abs=1e-8)


def test_logarithmic_energy_of_a_polygon():
    n = 7
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    polygon = torch.stack([angle.cos(), angle.sin()], 1)
    assert HypersphericalEnergy(0)(polygon).item() * n * (n - 1) == pytest.approx(-n * math.log(n))


@pytest.mark.parametrize("power", [0, 1, 2])
def test_half_space_is_the_mean_over_the_doubled_sample(power):
    z = points(9, 4)
    doubled = torch.cat([z, -z])
    distance = torch.cdist(doubled, doubled, compute_mode="donot_use_mm_for_euclid_dist")
    potential = -distance.log() if power == 0 else distance.pow(-power)
    own = torch.eye(9, dtype=torch.bool).tile(2, 2)
    expected = potential.masked_fill(own, 0).sum() / (4 * 9 * 8)
    torch.testing.assert_close(HypersphericalEnergy(power, True)(z), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("dim", [8, 64])
def test_energy_moments_by_quadrature(power, half_space, dim):
    def density(c):
        return (1 - c * c) ** (mpmath.mpf(dim - 3) / 2)

    def one(c):
        r = mpmath.sqrt(2 - 2 * c)
        return -mpmath.log(r) if power == 0 else r**-power

    def potential(c):
        return (one(c) + one(-c)) / 2 if half_space else one(c)

    mass = mpmath.quad(density, [-1, 0, 1])
    mean, square = (
        mpmath.quad(lambda c, k=k: potential(c) ** k * density(c), [-1, -0.5, 0, 0.5, 1]) / mass
        for k in (1, 2)
    )
    null = HypersphericalEnergy(power, half_space, dim=dim).null(50)
    assert null.mean == pytest.approx(float(mean), rel=1e-9)
    assert null.std == pytest.approx(float(mpmath.sqrt(2 * (square - mean**2) / (50 * 49))), rel=1e-6)


def test_energy_sees_close_pairs_in_float32():
    angle = 1e-5
    pair = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)], [-1.0, 0.0]])
    exact = HypersphericalEnergy(1)(pair.double())
    torch.testing.assert_close(HypersphericalEnergy(1)(pair).double(), exact, rtol=1e-5, atol=0)


def test_network_energy_written_out():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 1))
    energy = HypersphericalEnergy(1, True)
    filters, rows = net[0].weight.flatten(1), net[3].weight
    expected = 2 * energy(filters) + 5 * HypersphericalEnergy(1, True)(rows)
    torch.testing.assert_close(network_energy(net, 1, True, hidden_weight=2, output_weight=5), expected)
    with pytest.raises(ValueError, match="two or more neurons"):
        network_energy(nn.BatchNorm1d(3))
    energy_before = network_energy(net, 0)
    energy_before.backward()
    assert net[0].weight.grad.abs().sum() > 0
    assert net[1].weight.grad is None
