"""Alignment, uniformity and mean cosine against double loops and closed forms."""

import math

import mpmath
import pytest
import torch
from torch.nn import functional

from isosphere.statistics import alignment, mean_cosine, uniformity


def points(*shape):
    return functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def test_alignment_is_the_mean_over_pairs_of_views():
    z = points(4, 9, 5)
    pairs = [(z[v] - z[w]).square().sum(-1).mean() for v in range(4) for w in range(v)]
    assert alignment(z).item() == pytest.approx(torch.stack(pairs).mean().item())
    centre = z.mean(0)
    invariance = (z - centre).square().sum(-1).mean()
    assert alignment(z).item() == pytest.approx(2 * 4 / 3 * invariance.item())


def test_alignment_at_its_ends():
    z = points(1, 2000, 64)
    assert alignment(z.expand(2, -1, -1)).item() == 0
    assert alignment(points(2, 2000, 64)).item() == pytest.approx(2.0, abs=0.02)
    with pytest.raises(ValueError, match="at least two views"):
        alignment(z)


@pytest.mark.parametrize("t", [0.5, 2.0, 6.0])
def test_uniformity_is_the_double_loop(t):
    z = points(30, 4)
    terms = [math.exp(-t * (z[i] - z[j]).square().sum()) for i in range(30) for j in range(30) if i != j]
    assert uniformity(z, t).item() == pytest.approx(math.log(sum(terms) / len(terms)))


def test_uniformity_takes_views_and_gradients():
    z = points(2, 3, 8, 4)
    assert uniformity(z).shape == (2, 3)
    assert uniformity(z)[1, 2].item() == pytest.approx(uniformity(z[1, 2]).item())
    torch.autograd.gradcheck(uniformity, (points(6, 3).requires_grad_(),))


def test_uniformity_is_not_rounded_by_autocast():
    z = torch.nn.functional.normalize(torch.randn(50, 9), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = uniformity(z)
    assert inside == uniformity(z)


def test_uniformity_of_many_uniform_points_is_the_population_value():
    d, t = 5, 2.0
    expected = float(-2 * t + mpmath.log(mpmath.hyp0f1(mpmath.mpf(d) / 2, t * t)))
    assert uniformity(points(4000, d)).item() == pytest.approx(expected, abs=0.01)
    assert uniformity(points(1, d).expand(10, d)).item() == pytest.approx(0.0)


def test_mean_cosine_is_the_double_loop_and_knows_its_ends():
    z = points(20, 3)
    c = z @ z.T
    assert mean_cosine(z).item() == pytest.approx(((c.sum() - c.trace()) / 380).item())
    assert mean_cosine(torch.eye(4)).item() == pytest.approx(0.0)
    assert mean_cosine(points(1, 6).expand(7, 6)).item() == pytest.approx(1.0)
    simplex = functional.normalize(torch.eye(5) - 0.2, dim=1)
    assert mean_cosine(simplex).item() == pytest.approx(-1 / 4)
    assert mean_cosine(points(2, 20, 3)).shape == (2,)


@pytest.mark.parametrize("statistic", [uniformity, mean_cosine])
def test_one_row_is_no_sample(statistic):
    with pytest.raises(ValueError, match="at least two rows"):
        statistic(torch.ones(1, 3))
