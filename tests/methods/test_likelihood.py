"""Densities of directions and lengths: normalised or not more than that, and equal to what others compute."""

import math

import mpmath
import pytest
import torch
from scipy import special, stats

from isosphere.methods.vje import (
    diagonal_gaussian_kl,
    log_student_t,
    log_student_t_on_sphere,
    log_student_t_product,
    log_subdensity_constant,
)
from isosphere.sphere import (
    log_norm,
    log_power_spherical,
    log_spherical_cauchy,
    log_surface_area,
    normalize,
    power_spherical_kl,
    sample_uniform,
)


def circle(points=4001):
    """Unit rows of S^1 at equal steps, and the weight of each with respect to the length."""
    angle = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    return torch.stack([angle.cos(), angle.sin()], 1), torch.full((points,), 2 * math.pi / points).double()


def sphere(points=160):
    """A product rule on S^2: Gauss in the height, equal steps in the angle."""
    height, weight = (torch.as_tensor(x) for x in special.roots_legendre(points))
    angle = torch.arange(2 * points, dtype=torch.float64) * (math.pi / points)
    side = (1 - height.square()).sqrt()[:, None]
    rows = torch.stack([side * angle.cos(), side * angle.sin(), height[:, None].expand(-1, 2 * points)], -1)
    return rows.reshape(-1, 3), (weight[:, None] * math.pi / points).expand(-1, 2 * points).reshape(-1)


RULES = {2: circle, 3: sphere}


def worst_cases(dim, floor, count=12):
    """Locations at all distances and scales down to the floor, isotropic and not."""
    generator = torch.Generator().manual_seed(dim)
    scale = floor * (1 + torch.randn(count, dim, generator=generator, dtype=torch.float64).exp())
    scale[::3] = floor
    scale[1::3, 0] = floor
    length = torch.linspace(0, 2, count, dtype=torch.float64)
    length[::4] = 1.0
    location = length[:, None] * sample_uniform(count, dim, generator=generator, dtype=torch.float64)
    return location, scale


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("nu", [0.5, 1.0, 5.0, 100.0, math.inf])
@pytest.mark.parametrize("floor", [0.05, 0.3, 0.61, 2.0])
@pytest.mark.parametrize("dim", [2, 3])
def test_mass_on_the_sphere_is_at_most_one_by_quadrature(dim, floor, nu, independent):
    rows, weights = RULES[dim]()
    location, scale = worst_cases(dim, floor)
    masses = torch.stack(
        [
            (log_student_t_on_sphere(rows, m, s, nu, floor, independent=independent).exp() * weights).sum()
            for m, s in zip(location, scale, strict=True)
        ]
    )
    assert masses.max() <= 1 + 1e-9
    assert masses.max() > 0.01  # the constant is not simply enormous


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("nu", [5.0, 30.0])
def test_mass_on_the_sphere_is_at_most_one_by_sampling(nu, independent):
    """d = 8, scales at the floor and above: uniform directions, beyond five standard errors; without K it is more."""
    dim, floor = 8, 0.3
    rows = sample_uniform(200_000, dim, generator=torch.Generator().manual_seed(1)).double()
    largest = 0.0
    for location, scale in zip(*worst_cases(dim, floor), strict=True):
        log = log_student_t_on_sphere(rows, location, scale, nu, floor, independent=independent)
        values = log + log_surface_area(dim)
        mass, error = values.exp().mean(), values.exp().std() / len(rows) ** 0.5
        assert mass + 5 * error <= 1
        largest = max(largest, mass.item())
    assert largest * math.exp(log_subdensity_constant(dim, nu, floor, independent=independent)) > 1.1


@pytest.mark.parametrize("nu", [0.3, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("dim", [2, 16, 256, 2048])
def test_the_constant_of_independent_features_bounds_the_mean_of_the_largest_inverse(dim, nu):
    """E max_i chi_i / sqrt(nu), by mpmath from the incomplete gamma function, is at most what K is made of, and K less
    than four times it.
    """
    with mpmath.workdps(25):

        def above(x):  # P(max > x) = 1 - (1 - Q)^d
            return -mpmath.expm1(dim * mpmath.log1p(-mpmath.gammainc(nu / 2, x * x / 2, regularized=True)))

        exact = mpmath.quad(above, [0, 1, 2, 4, 6, 8, 12, 20]) / mpmath.sqrt(nu)
    floor = 1e-6
    given = log_subdensity_constant(dim, nu, floor, independent=True)
    gaussian = log_subdensity_constant(dim, math.inf, floor)  # c_d / floor
    assert float(exact) <= math.exp(given - gaussian) < 4 * float(exact)


@pytest.mark.parametrize("dim", [2, 7, 300])
@pytest.mark.parametrize("nu", [0.3, 5.0, 1e4])
def test_the_product_is_of_scipys_univariate_laws(dim, nu):
    x, m = torch.randn(2, 6, dim, dtype=torch.float64)
    s = torch.rand(dim, dtype=torch.float64) + 0.1
    expected = stats.t(df=nu, loc=m.numpy(), scale=s.numpy()).logpdf(x.numpy()).sum(-1)
    torch.testing.assert_close(
        log_student_t_product(x, m, s, nu), torch.as_tensor(expected), rtol=1e-9, atol=1e-9
    )
    shared = log_student_t_product(x, m, s[:1], nu)  # a scale for all features
    torch.testing.assert_close(shared, log_student_t_product(x, m, s[:1].expand(dim), nu))


def test_product_and_multivariate_law_differ_but_in_the_limit_and_for_one_feature():
    x, m = torch.randn(2, 5, 4, dtype=torch.float64)
    s = torch.rand(4, dtype=torch.float64) + 0.5
    gaussian = log_student_t(x, m, s, math.inf)
    torch.testing.assert_close(log_student_t_product(x, m, s, math.inf), gaussian)
    one = (x[:, :1], m[:, :1], s[:1], 3.0)
    torch.testing.assert_close(log_student_t_product(*one), log_student_t(*one))
    assert (log_student_t_product(x, m, s, 3.0) - log_student_t(x, m, s, 3.0)).abs().min() > 1e-3


def test_without_the_constant_the_mass_exceeds_one():
    """MATHEMATICS.md, section 6: d = 3, nu = 5, scale .3 about a unit centre has mass 1.264."""
    rows, weights = sphere()
    pole = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    mass = (log_student_t(rows, pole, torch.full((3,), 0.3).double(), 5.0).exp() * weights).sum()
    assert mass.item() == pytest.approx(1.264, abs=5e-4)


def test_the_constant_is_nearly_reached():
    """A Gaussian in d = 2 at the origin, with the scale at which |X| is likeliest to be 1, meets the bound."""
    floor = 1.0
    rows, weights = circle()
    mass = (
        log_student_t(rows, torch.zeros(2).double(), torch.ones(2).double(), math.inf).exp() * weights
    ).sum()
    bound = 0.60653 * math.sqrt(2 * math.pi) / math.sqrt(2 * math.pi) / floor
    assert mass.item() == pytest.approx(bound, rel=1e-4)
    assert log_subdensity_constant(2, math.inf, floor) == 0
    assert log_subdensity_constant(2, math.inf, 0.1) == pytest.approx(math.log(bound / 0.1), rel=1e-4)


@pytest.mark.parametrize("dim", [1, 2, 7, 300])
@pytest.mark.parametrize("nu", [0.3, 5.0, 1e4])
def test_student_t_is_scipys(dim, nu):
    x, m = torch.randn(2, 6, dim, dtype=torch.float64)
    s = torch.rand(dim, dtype=torch.float64) + 0.1
    theirs = stats.multivariate_t(shape=torch.diag(s.square()).numpy(), df=nu)
    expected = torch.as_tensor(theirs.logpdf((x - m).numpy())).reshape(6)
    torch.testing.assert_close(log_student_t(x, m, s, nu), expected, rtol=1e-11, atol=1e-9)


def test_student_t_is_mpmaths_where_the_series_are_long():
    nu, d, q = mpmath.mpf("1e9"), 2048, mpmath.mpf("3000.25")
    with mpmath.workdps(40):
        expected = (
            mpmath.loggamma((nu + d) / 2)
            - mpmath.loggamma(nu / 2)
            - mpmath.mpf(d) / 2 * mpmath.log(nu * mpmath.pi)
            - (nu + d) / 2 * mpmath.log1p(q / nu)
        )
    x = torch.full((d,), float(mpmath.sqrt(q / d)), dtype=torch.float64)
    got = log_student_t(x, torch.zeros(d).double(), torch.ones(d).double(), 1e9).item()
    assert got == pytest.approx(float(expected), rel=1e-8)


def test_the_gaussian_limit():
    x, m = torch.randn(2, 5, 4, dtype=torch.float64)
    s = torch.rand(4, dtype=torch.float64) + 0.5
    gaussian = torch.distributions.Normal(m, s).log_prob(x).sum(-1)
    torch.testing.assert_close(log_student_t(x, m, s, math.inf), gaussian)
    torch.testing.assert_close(log_student_t(x, m, s, 1e8), gaussian, rtol=1e-6, atol=1e-6)


def mean_over_angle(function, dim):
    """Mean of a function of c = cos(angle) to a pole under the uniform law, by mpmath."""

    def integral(f):
        ends = [0, 0.01, 0.1, 0.5, mpmath.pi]
        return mpmath.quad(lambda a: f(mpmath.cos(a)) * mpmath.sin(a) ** (dim - 2), ends)

    return integral(function) / integral(lambda c: mpmath.mpf(1))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8, 0.97])
@pytest.mark.parametrize("dim", [2, 3, 8, 64])
def test_spherical_cauchy_is_normalised(dim, rho):
    def density(c):
        u = torch.zeros(dim, dtype=torch.float64)
        u[0], u[1] = float(c), float(mpmath.sqrt(max(0, 1 - c**2)))
        return mpmath.exp((log_spherical_cauchy(u, pole, rho) + log_surface_area(dim)).item())

    pole = torch.eye(dim, dtype=torch.float64)[0]
    assert float(mean_over_angle(density, dim)) == pytest.approx(1, rel=1e-8)


def test_spherical_cauchy_written_out():
    u, m = sample_uniform(20, 5).double(), sample_uniform(20, 5).double()
    u, m = normalize(u), normalize(m)
    c = (u * m).sum(-1)
    naive = 4 * ((1 - 0.64) / (1 + 0.64 - 1.6 * c)).log() - log_surface_area(5)
    torch.testing.assert_close(log_spherical_cauchy(u, m, 0.8), naive, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 30.0, 2000.0])
@pytest.mark.parametrize("dim", [2, 3, 16])
def test_power_spherical_normaliser_and_divergence_are_integrals(dim, kappa):
    mass = mean_over_angle(lambda c: (1 + c) ** kappa, dim)

    def entropy(c):  # x^kappa log x tends to 0, and the rule may round its last point to the antipode
        return (1 + c) ** kappa * kappa * mpmath.log1p(c) if c > -1 else mpmath.mpf(0)

    mean_log = mean_over_angle(entropy, dim) / mass
    u = torch.eye(dim, dtype=torch.float64)[0]
    k = torch.tensor(kappa, dtype=torch.float64)
    at_centre = log_power_spherical(u, u, k).item() + log_surface_area(dim)
    assert at_centre == pytest.approx(float(kappa * mpmath.log(2) - mpmath.log(mass)), rel=1e-8)
    divergence = float(mean_log - mpmath.log(mass))
    assert power_spherical_kl(k, dim).item() == pytest.approx(divergence, rel=1e-6, abs=1e-11)


def test_power_spherical_in_float32_is_that_in_float64():
    u, m = sample_uniform(2, 512).unbind()
    for kappa in (0.1, 50.0, 5e4):
        wide = log_power_spherical(u.double(), m.double(), torch.tensor(kappa).double())
        narrow = log_power_spherical(u, m, torch.tensor(kappa))
        assert narrow.item() == pytest.approx(wide.item(), rel=2e-6)


def test_gaussian_divergence_against_monte_carlo_and_torch():
    m, a = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    q = torch.distributions.Normal(m, (a / 2).exp())
    p = torch.distributions.Normal(torch.zeros(3).double(), torch.ones(3).double())
    exact = diagonal_gaussian_kl(m, a)
    torch.testing.assert_close(exact, torch.distributions.kl_divergence(q, p).sum())
    z = m + (a / 2).exp() * torch.randn(400_000, 3, dtype=torch.float64)
    ratios = (q.log_prob(z) - p.log_prob(z)).sum(-1)
    assert abs(ratios.mean() - exact) < 5 * ratios.std() / len(z) ** 0.5
    assert diagonal_gaussian_kl(torch.zeros(3), torch.zeros(3)) == 0


def test_log_norm_in_the_whole_range_of_float32():
    x = torch.randn(4, 6) * torch.tensor([1e30, 1.0, 1e-9, 0.0])[:, None]
    x.requires_grad_()
    logs = log_norm(x)
    torch.testing.assert_close(logs[:3].double(), x[:3].double().norm(dim=1).log())
    assert logs[3].item() == pytest.approx(math.log(1e-12))
    logs.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[3] == 0).all()


def test_gradients():
    u, m = (normalize(torch.randn(3, 4, dtype=torch.float64)).requires_grad_() for _ in range(2))
    s = (torch.rand(3, 4, dtype=torch.float64) + 0.2).requires_grad_()
    k = (torch.rand(3, dtype=torch.float64) + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: log_student_t_on_sphere(*a, 3.0, 0.1), (u, m, s))
    assert torch.autograd.gradcheck(lambda *a: log_spherical_cauchy(*a, 0.7), (u, m))
    assert torch.autograd.gradcheck(log_power_spherical, (u, m, k))
    assert torch.autograd.gradcheck(lambda k: power_spherical_kl(k, 4), (k,))
    assert torch.autograd.gradcheck(log_norm, (m,))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: log_student_t(x, x, x.abs(), 0.0), "degrees_of_freedom=0"),
        (lambda x: log_student_t_on_sphere(x, x, x.abs(), 5.0, 0.0), "floor=0"),
        (lambda x: log_subdensity_constant(1, 5.0, 0.1), "dim=1"),
        (lambda x: log_spherical_cauchy(x, x, 1.0), "rho=1"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.ones(2, 3))
