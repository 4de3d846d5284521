"""Totals of other libraries, written out from their sources, have our gradient at the converted weight."""

import pytest
import torch
from torch import nn

from isosphere.discrepancies import SIGReg
from isosphere.methods import JEPA, weight_of_lambda

N, D = 40, 12


def some_views(count=2):
    x = torch.randn(1, N, D, dtype=torch.float64)
    return (x + 0.5 * torch.randn(count, N, D, dtype=torch.float64)).requires_grad_()


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


def test_wrong_use_is_refused_in_words():
    with pytest.raises(ValueError, match="expected one of lejepa, lightly"):
        weight_of_lambda(0.05, "solo", dim=8)
    with pytest.raises(ValueError, match="positive"):
        weight_of_lambda(0.0, "lejepa", dim=8)
    with pytest.raises(ValueError, match="convex"):
        weight_of_lambda(1.0, "lightly", dim=8)
    with pytest.raises(ValueError, match="factor n"):
        weight_of_lambda(10.0, "eb_jepa", dim=8)
