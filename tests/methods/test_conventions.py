"""Totals of other libraries, written out from their sources, have our gradient at the converted weight."""

import pytest
import torch
from torch import nn

from isosphere.discrepancies import SIGReg, build_discrepancy
from isosphere.methods import JEPA, expansion_ratio, invariance_slope, weight_of_lambda
from isosphere.sphere import marginal_cf

N, D = 40, 12


def some_views(count=2, dim=D):
    x = torch.randn(1, N, dim, dtype=torch.float64)
    return (x + 0.5 * torch.randn(count, N, dim, dtype=torch.float64)).requires_grad_()


def statistic(rows, directions, knots):
    """Epps-Pulley written out: trapezoid over the knots of |ecf - cf|^2 exp(-t^2/2), mean over directions, no n."""
    angles = (rows @ directions.T)[..., None] * knots
    target = torch.exp(-knots.square() / 2)
    error = ((angles.cos().mean(0) - target) ** 2 + angles.sin().mean(0) ** 2) * target
    return torch.trapezoid(error, knots, dim=-1).mean()


def knots(count, reach=3.0):
    return torch.linspace(-reach, reach, count, dtype=torch.float64)


def gradients(ours, theirs, z):
    return torch.autograd.grad(ours, z)[0], torch.autograd.grad(theirs, z)[0]


def jepa(discrepancy, weight, views=2):
    return JEPA(nn.Identity(), nn.Identity(), discrepancy, weight=weight, global_views=min(views, 2)).double()


@pytest.mark.parametrize("library", ["lejepa", "lightly"])
def test_lejepa_and_lightly(library):
    """Convex; the invariance also averaged over dimensions; 17 knots on [0, 3], doubled: 33 on [-3, 3]."""
    z, lam = some_views(4), 0.05
    discrepancy = SIGReg(D, num_slices=32, knots=33, reach=3.0)
    spread = N * sum(statistic(v, discrepancy.directions(v), knots(33)) for v in z) / 4
    theirs = (1 - lam) * (z - z[:2].mean(0)).square().mean() + lam * spread
    weight = weight_of_lambda(lam, library, dim=D)
    a, b = gradients(jepa(discrepancy, weight)(list(z)).total, theirs, z)
    torch.testing.assert_close(a, weight / lam * b, rtol=1e-6, atol=1e-9)


class Pooled(SIGReg):
    """The statistic of all views as one sample."""

    def _statistic(self, z):
        return super()._statistic(z.reshape(-1, self.dim)) if z.ndim == 3 else super()._statistic(z)


def test_stable_pretraining_with_the_views_pooled():
    """Not convex; the invariance also averaged over dimensions; the statistic of all views' V n rows, times V n."""
    z, lam, views = some_views(3), 0.02, 3
    discrepancy = Pooled(D, num_slices=32, knots=33, reach=3.0)
    rows = z.reshape(-1, D)
    theirs = (z - z[:2].mean(0)).square().mean()
    theirs = theirs + lam * views * N * statistic(rows, discrepancy.directions(rows), knots(33))
    weight = weight_of_lambda(lam, "stable-pretraining", dim=D)
    a, b = gradients(jepa(discrepancy, weight, views)(list(z)).total, theirs, z)
    torch.testing.assert_close(a, weight / lam * b, rtol=1e-6, atol=1e-9)


def test_pooling_the_views_multiplies_the_statistic_by_their_number_near_collapse_only():
    views = 4
    each, pooled = SIGReg(D, num_slices=256), Pooled(D, num_slices=256)
    row = torch.zeros(views, N, D)
    torch.testing.assert_close(pooled(row), views * each(row).mean())
    independent = torch.randn(views, 2000, D)
    ratio = (pooled(independent) / each(independent).mean()).item()
    assert 0.6 < ratio < 1.6


@pytest.mark.parametrize(("count", "tolerance"), [(33, 1e-6), (10, 0.02)])
def test_eb_jepa(count, tolerance):
    """Two views, mean squared distance of the two over rows and dimensions; no factor n; 10 knots on [-3, 3].

    With the knots of our rule the gradients agree to rounding, with its own ten to 2 %.
    """
    z, lam = some_views(), 10.0
    discrepancy = SIGReg(D, num_slices=32, knots=33, reach=3.0)
    directions = discrepancy.directions(z)
    spread = sum(statistic(v, directions, knots(count)) for v in z) / 2
    theirs = (z[0] - z[1]).square().mean() + lam * spread
    weight = weight_of_lambda(lam, "eb_jepa", dim=D, n=N)
    a, b = gradients(jepa(discrepancy, weight)(list(z)).total, theirs, z)
    factor = weight * N / lam
    assert ((a - factor * b).norm() / a.norm()).item() < tolerance


W = 24  # the paper's scale of KL needs an area below 1


def as_the_papers_do(name, z, knots_=17, reach=5.0):
    """Statistics of 2606.17603 written out, mean over views: no factor n anywhere, 1 at collapse but for SUSReg's."""
    if name == "susreg":
        discrepancy = build_discrepancy(name, W, num_slices=32)
        a = discrepancy.directions(z)
        s = torch.linspace(-reach, reach, knots_, dtype=torch.float64)
        uniform = marginal_cf(s.abs() * W**0.5, W)
        angles = (W**0.5 * z @ a.T)[..., None] * s
        error = (angles.cos().mean(-3) - uniform) ** 2 + angles.sin().mean(-3) ** 2
        return torch.trapezoid(error * torch.exp(-s.square() / 2), s, dim=-1).mean()
    discrepancy = build_discrepancy(name, W, **({"scale": "paper"} if name == "kl-heat" else {}))
    return discrepancy.reference(z).mean()


FAMILY = ("susreg", "mmd-induced", "mmd-heat", "mmd-bandlimited", "ksd-heat", "ksd-bandlimited", "kl-heat")


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("library", ["sphere-jepa", "sphere-jepa-literal"])
def test_the_two_readings_of_the_spherical_papers(library, name):
    """Convex; the centre is the mean of the normalised global views; averaged: over dimensions too, and no factor n;
    literal: a squared norm, and SUSReg times n.
    """
    z, lam = some_views(4, W), 0.5 if name == "kl-heat" else 0.05
    unit = z / z.norm(dim=-1, keepdim=True)
    pulled = (unit - unit[:2].mean(0)).square()
    spread = as_the_papers_do(name, unit)
    if library == "sphere-jepa":
        theirs = (1 - lam) * pulled.mean() + lam * spread
    else:
        theirs = (1 - lam) * pulled.sum(-1).mean() + lam * spread * (N if name == "susreg" else 1)
    options = {"susreg": {"num_slices": 32}, "kl-heat": {"scale": "paper"}}.get(name, {})
    weight = weight_of_lambda(lam, library, dim=W, n=N, discrepancy=name)
    ours = jepa(build_discrepancy(name, W, **options), weight)(list(z)).total
    a, b = gradients(ours, theirs, z)
    factor = (1 - weight) / (1 - lam) * (W if library == "sphere-jepa" else 1)
    torch.testing.assert_close(a, factor * b, rtol=1e-5, atol=1e-9)


def test_where_the_papers_lambda_lands():
    """d = n = 256, lambda .05 (KL .5): averaged it is .931 (KL .996), and .05 for SUSReg, which has the factor n."""

    def weight(name, lam=0.05, library="sphere-jepa"):
        return weight_of_lambda(lam, library, dim=256, n=256, discrepancy=name)

    assert weight("mmd-heat") == pytest.approx(0.9309, abs=1e-4)
    assert weight("susreg") == pytest.approx(0.05)
    assert weight("kl-heat", 0.5) == pytest.approx(256 / 257)
    assert weight("mmd-heat", library="sphere-jepa-literal") == pytest.approx(0.05)


# PAPERS: expansion ratios at d = n = 256, two global views, lambda .05 (KL .5): summed, averaged.
RATIOS = {
    "susreg": (67, 67),
    "mmd-induced": (0.25, 64),
    "mmd-heat": (0.21, 55),
    "mmd-bandlimited": (0.21, 54),
    "ksd-heat": (0.28, 71),
    "ksd-bandlimited": (0.21, 54),
    "kl-heat": (0.16, 42),
}


@pytest.mark.parametrize("name", FAMILY)
def test_expansion_ratios_of_the_two_readings(name):
    options = {"kl-heat": {"scale": "paper"}, "mmd-heat": {"time": 5 / 256}, "ksd-heat": {"time": 5 / 256}}
    discrepancy = build_discrepancy(name, 256, **options.get(name, {}))
    lam = 0.5 if name == "kl-heat" else 0.05
    libraries = ("sphere-jepa-literal", "sphere-jepa")
    for library, expected in zip(libraries, RATIOS[name], strict=True):
        weight = weight_of_lambda(lam, library, dim=256, n=256, discrepancy=name)
        found = expansion_ratio(discrepancy, weight, 256, invariance_slope(2, 0))
        assert found == pytest.approx(expected, rel=0.04)


def test_wrong_use_is_refused_in_words():
    with pytest.raises(ValueError, match="expected one of lejepa, lightly"):
        weight_of_lambda(0.05, "solo", dim=8)
    with pytest.raises(ValueError, match="positive"):
        weight_of_lambda(0.0, "lejepa", dim=8)
    with pytest.raises(ValueError, match="convex"):
        weight_of_lambda(1.0, "lightly", dim=8)
    with pytest.raises(ValueError, match="factor n"):
        weight_of_lambda(10.0, "eb_jepa", dim=8)
    with pytest.raises(ValueError, match="depends on it"):
        weight_of_lambda(0.05, "sphere-jepa", dim=8)
    with pytest.raises(ValueError, match="factor n"):
        weight_of_lambda(0.05, "sphere-jepa", dim=8, discrepancy="susreg")
