"""Means over pairs of several samples at once, against each by itself."""

import pytest
import torch

from isosphere.discrepancies import HypersphericalEnergy
from isosphere.reductions import cosine_pair_means, together

SHAPES, WEIGHTS = [(5, 3), (2, 7), (8, 4)], [1.0, 0.3, 2.0]


def samples(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in SHAPES]


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_is_the_sum_of_the_energies_of_each(power, half_space):
    energy, x = HypersphericalEnergy(power, half_space), samples()
    expected = sum(w * energy.reference(one) for w, one in zip(WEIGHTS, x, strict=True))
    found = energy.of_samples(x, WEIGHTS)
    torch.testing.assert_close(found, expected)
    slopes, wanted = torch.autograd.grad(found, x), torch.autograd.grad(expected, x)
    for a, b in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_differentiates_twice():
    def smooth(c, order):
        return torch.stack([c.pow(3), 3 * c.square(), 6 * c])[order]

    x = samples()
    assert torch.autograd.gradgradcheck(lambda *some: cosine_pair_means(some, smooth, WEIGHTS), x)


def test_a_row_of_zeros_has_cosine_0_and_no_gradient():
    x = samples()
    with torch.no_grad():
        x[0][1] = 0
    energy = HypersphericalEnergy(2)
    found = energy.of_samples(x, WEIGHTS)
    torch.testing.assert_close(found, sum(w * energy(one) for w, one in zip(WEIGHTS, x, strict=True)))
    found.backward()
    assert x[0].grad[1].tolist() == [0, 0, 0]
    assert all(one.grad.isfinite().all() for one in x)


def test_together_are_those_whose_pairs_are_few_and_on_a_cpu_none():
    sizes = [1000, 1000, 3000, 10, 10]
    assert list(together([torch.empty(n, 3) for n in sizes])) == [[0], [1], [2], [3], [4]]
    assert list(together([torch.empty(n, 3, device="meta") for n in sizes])) == [[0, 1], [2], [3, 4]]
    assert list(together([])) == []
