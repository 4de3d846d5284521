"""Discrepancies to the normal law against their formulas: autograd's Stein kernel, sampling, quantiles by hand."""

import math
from statistics import NormalDist

import pytest
import torch

from isosphere.discrepancies import GaussianKSD, GaussianMMD, SIGReg, SUSReg, VISReg

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:FutureWarning"
)  # torch.func's own
D = 5


def rows(n=12):
    return torch.randn(n, D, dtype=torch.float64) * 0.8 + 0.3


def kernel(name, gamma):
    if name == "gaussian":
        return lambda x, y: torch.exp(-gamma * (x - y).square().sum())
    return lambda x, y: (1 + gamma * (x - y).square().sum()) ** -0.5


@pytest.mark.parametrize("name", ["gaussian", "imq"])
def test_the_stein_kernel_is_the_langevin_operator_on_both_arguments(name):
    """s(x) s(y) k + s(x) grad_y k + s(y) grad_x k + tr grad_x grad_y k with the score s(x) = -x, by autograd."""
    gamma, z = 0.3, rows(4)
    k = kernel(name, gamma)

    def stein(x, y):
        by_x, by_y = torch.func.grad(k, 0)(x, y), torch.func.grad(k, 1)(x, y)
        cross = torch.func.jacfwd(torch.func.grad(k, 1), 0)(x, y).trace()
        return x @ y * k(x, y) - x @ by_y - y @ by_x + cross

    values = torch.stack([torch.stack([stein(x, y) for y in z]) for x in z])
    torch.testing.assert_close(GaussianKSD(D, gamma, name)(z), values.mean())
    apart = (values.sum() - values.trace()) / 12
    torch.testing.assert_close(GaussianKSD(D, gamma, name, "u")(z), apart)


def test_the_mmd_is_the_limit_of_samples_of_its_target():
    gamma, z = 0.2, rows()
    y = torch.randn(200_000, D, dtype=torch.float64)
    k = lambda a, b: torch.exp(-gamma * torch.cdist(a, b).square())  # noqa: E731
    sampled = k(z, z).mean() - 2 * k(z, y).mean() + k(y[:3000], y[3000:6000]).mean()
    assert GaussianMMD(D, gamma)(z).item() == pytest.approx(sampled.item(), abs=3e-3)


@pytest.mark.parametrize("build", [GaussianMMD, GaussianKSD])
def test_u_statistics_are_0_in_the_mean_for_normal_points(build):
    test = build(D, estimator="u")
    values = torch.stack([test(torch.randn(30, D, dtype=torch.float64)) for _ in range(400)])
    assert abs(values.mean()) < 4 * values.std() / 20


@pytest.mark.parametrize("build", [SUSReg, SIGReg])
def test_a_sliced_u_statistic_is_unbiased_and_the_v_statistic_less_its_diagonal(build):
    """2610.10299, equation 10: J_U = J_V - mean (1 - |ecf|^2) / (n - 1), here times n and the rule of the knots."""
    n, v, u = 20, build(D, num_slices=64), build(D, num_slices=64, estimator="u")
    z = rows(n) if build is SIGReg else torch.nn.functional.normalize(rows(n), dim=1)
    angles = v._points[:, None, None] * v.scale * (z @ v.directions(z).T)
    square = angles.cos().mean(1) ** 2 + angles.sin().mean(1) ** 2
    excess = (v._rule[:, None] * (1 - square)).sum(0).mean() * n / (n - 1)
    torch.testing.assert_close(u(z), v(z) - excess)
    draws = []
    for _ in range(600):
        x = torch.randn(n, D, dtype=torch.float64)
        draws.append(u(x if build is SIGReg else torch.nn.functional.normalize(x, dim=1)))
        u.after_step()
    values = torch.stack(draws)
    assert abs(values.mean()) < 4 * values.std() / 600**0.5


def test_visreg_by_hand():
    n, z, test = 7, rows(7), VISReg(D, num_slices=3, scale=2.0, shape=3.0, centre=4.0)
    mean = [sum(column) / n for column in z.T.tolist()]
    spread = [
        math.sqrt(sum((x - m) ** 2 for x in column) / n) for column, m in zip(z.T.tolist(), mean, strict=True)
    ]
    quantiles = [NormalDist().inv_cdf(i / (n + 1)) for i in range(1, n + 1)]
    shape = 0.0
    for a in test.directions(z).tolist():
        seen = sorted(
            sum(w * (x - m) / s for w, x, m, s in zip(a, row, mean, spread, strict=True))
            for row in z.tolist()
        )
        shape += sum((x - q) ** 2 for x, q in zip(seen, quantiles, strict=True)) / n / 3
    scale = sum((1 - s) ** 2 for s in spread) / D
    centre = sum(m**2 for m in mean) / D
    assert test(z).item() == pytest.approx(2 * scale + 3 * shape + 4 * centre)


def test_the_shape_has_no_gradient_through_the_deviation_and_pulls_at_collapse():
    z = rows().requires_grad_()
    test = VISReg(D, num_slices=8, scale=0.0, centre=0.0)
    (gradient,) = torch.autograd.grad(test(z), z)
    fixed = (z - z.mean(0)).square().mean(0).sqrt().detach()
    quantiles = torch.special.ndtri(torch.arange(1, 13, dtype=torch.float64) / 13)[:, None]
    seen = ((z - z.mean(0)) / fixed @ test.directions(z).T).sort(0).values
    (expected,) = torch.autograd.grad((seen - quantiles).square().mean(), z)
    torch.testing.assert_close(gradient, expected)
    pulls = []
    for radius in (1e-1, 1e-3):
        x = (radius * torch.randn(50, D, dtype=torch.float64)).requires_grad_()
        (pull,) = torch.autograd.grad(VISReg(D, shape=0.0)(x), x)
        pulls.append(pull.norm().item())
    assert pulls[1] == pytest.approx(pulls[0], rel=0.3)  # it does not vanish with the radius


@pytest.mark.parametrize("build", [GaussianMMD, GaussianKSD, SUSReg, SIGReg])
def test_wrong_use_is_refused_in_words(build):
    with pytest.raises(ValueError, match="expected 'v'"):
        build(D, estimator="w")
    with pytest.raises(ValueError, match="expected at least 2"):
        build(D, estimator="u")(torch.ones(1, D))
    if build in (GaussianMMD, GaussianKSD):
        with pytest.raises(ValueError, match="gamma"):
            build(D, 0.0)
