"""Dimensions, eigenvalues and polynomials against binomials, mpmath, scipy and the addition theorem."""

import math
from typing import Any

import mpmath as mp
import pytest
import torch
from scipy.special import sph_harm_y

from isosphere.sphere import (
    gegenbauer,
    gegenbauer_derivative_at_one,
    gegenbauer_sum,
    harmonic_dimension,
    jacobi_off_diagonal,
    laplacian_eigenvalue,
    log_harmonic_dimension,
    log_harmonic_dimensions,
    marginal_quadrature,
    sample_uniform,
)

DIMS = [2, 3, 4, 8, 64, 512, 2048, 4096]


def polynomial(degree: int, t: float, dim: int):
    """P_l by its hypergeometric sum, not by the recurrence."""
    return mp.hyp2f1(-degree, degree + dim - 2, mp.mpf(dim - 1) / 2, (1 - mp.mpf(t)) / 2, zeroprec=400)


@pytest.mark.parametrize("dim", DIMS)
def test_dimension_is_the_difference_of_binomials(dim):
    for degree in (0, 1, 2, 3, 10, 77):
        expected = math.comb(degree + dim - 1, dim - 1)
        expected -= math.comb(degree + dim - 3, dim - 1) if degree >= 2 else 0
        assert harmonic_dimension(degree, dim) == expected
        assert log_harmonic_dimension(degree, dim) == pytest.approx(
            float(mp.log(expected)), rel=1e-15, abs=1e-15
        )
    table = log_harmonic_dimensions(77, dim)
    assert table.dtype == torch.float64
    assert torch.equal(
        log_harmonic_dimension(torch.tensor([[0, 2], [10, 77]]), dim),
        torch.stack([table[[0, 2]], table[[10, 77]]]),
    )


def test_dimension_of_the_circle_and_of_the_sphere():
    assert [harmonic_dimension(l, 2) for l in range(5)] == [1, 2, 2, 2, 2]
    assert [harmonic_dimension(l, 3) for l in range(5)] == [1, 3, 5, 7, 9]


def test_eigenvalue():
    assert [laplacian_eigenvalue(l, 5) for l in range(4)] == [0, 4, 10, 18]
    assert torch.equal(laplacian_eigenvalue(torch.tensor([0, 3]), 5), torch.tensor([0.0, 18.0]).double())


@pytest.mark.parametrize("dim", DIMS)
def test_gegenbauer_against_mpmath(dim):
    t = torch.tensor([-1.0, -0.9, -0.3, 0.0, 0.01, 0.5, 1.0], dtype=torch.float64)
    with mp.workdps(60):
        expected = [[float(polynomial(l, float(x), dim)) for l in range(31)] for x in t]
    values = gegenbauer(t, 30, dim)
    assert values.shape == (7, 31)
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-14)


@pytest.mark.parametrize("dim", [2, 3, 64, 2048])
def test_sum_is_the_table_times_coefficients(dim):
    t = torch.linspace(-1, 1, 21, dtype=torch.float64).reshape(3, 7)
    a = torch.randn(12, dtype=torch.float64)
    torch.testing.assert_close(gegenbauer_sum(t, a, dim), gegenbauer(t, 11, dim) @ a, rtol=0, atol=1e-13)
    assert float(gegenbauer_sum(t, a[:1], dim)[0, 0]) == float(a[0])


@pytest.mark.parametrize("dim", [2, 3, 8, 512])
def test_derivative_is_a_polynomial_of_a_higher_dimension(dim):
    t = torch.linspace(-0.9, 0.9, 5, dtype=torch.float64)
    for order in (1, 2, 3, 4):
        for degree in (order - 1, order, 9):
            with mp.workdps(60):
                expected = [
                    float(mp.diff(lambda x, l=degree: polynomial(l, x, dim), float(v), order))
                    for v in t.tolist()
                ]
            at_one = float(gegenbauer_derivative_at_one(degree, dim, order)[degree])
            shifted = gegenbauer(t, max(degree - order, 0), dim + 2 * order)[:, -1]
            assert (at_one * shifted).tolist() == pytest.approx(
                expected, rel=1e-9, abs=1e-9 * max(1, abs(at_one))
            )


@pytest.mark.parametrize("dim", DIMS)
def test_polynomials_are_orthogonal_with_norm_one_over_dimension(dim):
    t, w = marginal_quadrature(dim, 24)
    table = gegenbauer(t, 20, dim)
    scale = torch.exp(log_harmonic_dimensions(20, dim) / 2)
    gram = (table * scale).mT @ ((table * scale) * w[:, None])
    torch.testing.assert_close(
        gram, torch.eye(21, dtype=torch.float64), rtol=0, atol=2e-9 if dim > 64 else 1e-11
    )


def test_jacobi_matrix_is_multiplication_by_t():
    for dim in DIMS:
        t = torch.linspace(-1, 1, 9, dtype=torch.float64)
        e = gegenbauer(t, 6, dim) * torch.exp(log_harmonic_dimensions(6, dim) / 2)
        b = jacobi_off_diagonal(6, dim)
        for l in range(1, 6):
            raised = b[l] * e[:, l + 1] + b[l - 1] * e[:, l - 1]
            torch.testing.assert_close(
                t * e[:, l], raised, rtol=1e-12, atol=1e-12 * float(e[:, l + 1].abs().max())
            )


def test_addition_theorem_on_the_two_sphere():
    g = torch.Generator().manual_seed(3)
    x, y = sample_uniform(2, 3, generator=g, dtype=torch.float64)
    points = (x.tolist(), y.tolist())
    for degree in (1, 2, 5):
        total = 0.0
        for m in range(-degree, degree + 1):
            left, right = (sph_harm_y(degree, m, math.acos(p[2]), math.atan2(p[1], p[0])) for p in points)
            total += (left * right.conjugate()).real
        expected = gegenbauer(x @ y, degree, 3)[degree] * (2 * degree + 1) / (4 * math.pi)
        assert total == pytest.approx(float(expected), abs=1e-13)


@pytest.mark.parametrize("dim", [2, 3, 8, 64])
def test_addition_theorem_by_sampling(dim):
    """E_y N(l) P_l(<x, y>) P_l(<y, z>) = P_l(<x, z>), 0 for unequal degrees, within five standard errors."""
    g = torch.Generator().manual_seed(dim)
    x = torch.zeros(dim, dtype=torch.float64)
    x[0] = 1
    z = torch.zeros(dim, dtype=torch.float64)
    z[0], z[1] = 0.6, 0.8
    y = sample_uniform(200_000, dim, generator=g, dtype=torch.float64)
    left, right = gegenbauer(y @ x, 3, dim), gegenbauer(y @ z, 3, dim)
    for k in range(4):
        for l in range(4):
            scale = math.exp((log_harmonic_dimension(k, dim) + log_harmonic_dimension(l, dim)) / 2)
            draws = left[:, k] * right[:, l] * scale
            expected = float(gegenbauer(x @ z, 3, dim)[l]) if k == l else 0.0
            error = float(draws.std()) / math.sqrt(draws.numel())
            assert abs(float(draws.mean()) - expected) <= 5 * error + 1e-12
            assert error < 0.02


def test_gegenbauer_gradient_and_dtypes():
    t = torch.tensor([-0.7, 0.1, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: gegenbauer(v, 5, 7), t)
    assert gegenbauer(torch.zeros(2, dtype=torch.bfloat16), 3, 4).dtype == torch.float32
    assert gegenbauer(torch.zeros(0, 2), 3, 4).shape == (0, 2, 4)
    assert torch.isfinite(gegenbauer(torch.rand(100), 400, 4096)).all()


def wrong(value: object) -> Any:
    """A value of a type that the type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: harmonic_dimension(-1, 3), ValueError, "degree must be 0 or more"),
        (lambda: log_harmonic_dimension(1, 1), ValueError, "dim must be at least 2"),
        (lambda: log_harmonic_dimension(1, wrong(3.0)), TypeError, "dim must be an int"),
        (lambda: log_harmonic_dimension(wrong(1.5), 3), TypeError, "degree must be an int"),
        (lambda: log_harmonic_dimension(torch.tensor([-1]), 3), ValueError, "degree must be 0 or more"),
        (lambda: laplacian_eigenvalue(torch.tensor([1.0]), 3), TypeError, "use degree.long"),
        (lambda: gegenbauer(torch.tensor([1]), 2, 3), TypeError, "use t.float"),
        (lambda: gegenbauer(torch.zeros(1), -1, 3), ValueError, "max_degree must be 0 or more"),
        (
            lambda: gegenbauer_sum(torch.zeros(1), torch.zeros(0), 3),
            ValueError,
            "coefficients must have shape",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_results_are_not_the_cache():
    log_harmonic_dimensions(5, 9).zero_()
    assert float(log_harmonic_dimensions(5, 9)[1]) == math.log(9)
