"""Samples: seeds and laws."""

import math

import pytest
import torch
from scipy import special, stats

from isosphere.sphere import (
    mean_resultant_length,
    sample_uniform,
    sample_vmf,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uniform_points_repeat_by_seed_and_have_unit_length():
    x = sample_uniform(100, 16, generator=generator(1))
    assert torch.equal(x, sample_uniform(100, 16, generator=generator(1)))
    assert not torch.equal(x, sample_uniform(100, 16, generator=generator(2)))
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(100))
    assert sample_uniform(3, 4, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert sample_uniform(0, 4).shape == (0, 4)


def test_a_given_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    sample_uniform(10, 4, generator=generator())
    sample_vmf(torch.ones(4), 3.0, 10, generator=generator())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dim", [2, 3, 64])
def test_uniform_points_look_the_same_from_any_direction(dim):
    x = sample_uniform(20_000, dim, generator=generator(5), dtype=torch.float64)
    direction = sample_uniform(1, dim, generator=generator(6), dtype=torch.float64)[0]
    half = (dim - 1) / 2
    cdf = special.betainc(half, half, (1 + (x @ direction).numpy()) / 2)
    assert stats.kstest(cdf, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("dim", "concentration"), [(2, 3.0), (3, 0.0), (3, 10.0), (64, 20.0), (256, 300.0), (8, 1e4)]
)
def test_von_mises_fisher_has_its_mean_and_its_law(dim, concentration):
    mean = sample_uniform(1, dim, generator=generator(1), dtype=torch.float64)[0]
    x = sample_vmf(3 * mean, concentration, 20_000, generator=generator(2))
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(20_000, dtype=torch.float64))
    t = x @ mean
    error = float(t.std()) / math.sqrt(20_000)
    assert abs(float(t.mean()) - float(mean_resultant_length(concentration, dim))) < 4 * error
    sideways = (x - t[:, None] * mean).mean(0).norm() * math.sqrt(20_000)
    assert float(sideways) < math.sqrt(dim) + 4
    if concentration and dim > 2:
        low = max(-1.0, 1 - 60 / concentration) if concentration > 10 * dim else -1.0
        grid = torch.linspace(low, 1, 400_001, dtype=torch.float64)[:-1]
        log_density = concentration * grid + (dim - 3) / 2 * torch.log1p(-(grid**2)).clamp(min=-1e4)
        cdf = torch.exp(log_density - log_density.max()).cumsum(0)
        values = cdf[((t - low) / (1 - low) * 400_000).long().clamp(max=399_999)] / cdf[-1]
        assert stats.kstest(values.numpy(), "uniform").pvalue > 0.01
