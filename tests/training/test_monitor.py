"""Two failures, told apart by three numbers."""

import math

import pytest
import torch

from isosphere.sphere import sample_uniform
from isosphere.training import CollapseMetrics, collapse_metrics, measure, verdict


def brute(x, y):
    n = len(x)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    cosine = torch.stack([torch.cosine_similarity(x[i], x[j], dim=0) for i, j in pairs]).mean()
    related = torch.stack([(x[i] - y[i]).square().sum() for i in range(n)]).mean()
    unrelated = torch.stack([(x[i] - y[j]).square().sum() for i, j in pairs]).mean()
    both = torch.cat([x, y])
    eigenvalues = torch.linalg.eigvalsh(torch.cov(both.T))
    return cosine, 1 - related / unrelated, eigenvalues.sum() ** 2 / eigenvalues.square().sum()


@pytest.mark.parametrize("shape", [(7, 5), (5, 40)])
def test_against_brute_force(shape):
    x = torch.randn(shape, dtype=torch.float64) + 0.7
    y = x + 0.3 * torch.randn(shape, dtype=torch.float64)
    state = collapse_metrics(x, y)
    for got, expected in zip((state.cosine, state.alignment, state.dimensions), brute(x, y), strict=True):
        assert got == pytest.approx(expected.item(), rel=1e-9)


def test_invariant_to_rotation_and_alignment_to_shift_and_scale():
    x, y = torch.randn(2, 20, 6, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    a, b = collapse_metrics(x, y), collapse_metrics(x @ rotation, y @ rotation)
    assert a.as_row() == pytest.approx(b.as_row())
    assert collapse_metrics(3 * x + 5, 3 * y + 5).alignment == pytest.approx(a.alignment)


def test_the_three_states():
    generator = torch.Generator().manual_seed(0)
    z = sample_uniform(128, 64, generator=generator)
    other = sample_uniform(128, 64, generator=generator)
    good = collapse_metrics(z, torch.nn.functional.normalize(z + 0.05 * other, dim=1))
    assert good.cosine == pytest.approx(0, abs=0.01)
    assert good.alignment > 0.9
    assert 40 < good.dimensions <= 64
    apart = collapse_metrics(z, other)
    assert apart.alignment == pytest.approx(0, abs=0.05)
    point = collapse_metrics(torch.ones(128, 64), torch.ones(128, 64))
    assert point == CollapseMetrics(1.0, 0.0, 0.0, 64)
    said = [verdict(state, progress=0.5, steps=1000) for state in (good, apart, point)]
    assert said[0] is None
    assert said[1] is not None
    assert said[1].startswith("Spread without alignment")
    assert "views" in said[1]
    assert said[2] is not None
    assert said[2].startswith("Collapse")
    weighted = [
        verdict(state, progress=0.5, steps=1000, spread_setting=("method.weight", 0.25))
        for state in (apart, point)
    ]
    assert 'or a smaller set={"method.weight": 0.12}.' in (weighted[0] or "")
    assert 'a larger set={"method.weight": 0.4} (now 0.25)' in (weighted[1] or "")
    assert not any("weight" in (text or "") for text in said[:2])  # no advice that would be refused
    assert "This method has no weight" in said[2]


def test_nothing_is_said_too_early():
    collapsed = CollapseMetrics(1.0, 0.0, 0.0)
    assert verdict(collapsed, progress=0.05, steps=10**6) is None
    assert verdict(collapsed, progress=0.9, steps=20) is None
    assert verdict(collapsed, progress=0.9, steps=1000) is not None


def test_wrong_shapes_and_overflow():
    with pytest.raises(ValueError, match="shapes"):
        collapse_metrics(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="shapes"):
        collapse_metrics(torch.ones(4, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="not finite"):
        collapse_metrics(torch.full((4, 3), math.nan), torch.ones(4, 3))


def test_measure_uses_the_embedding(tiny):
    method = tiny()
    x = torch.rand(16, 3, 12, 12)
    state = measure(method, [x, x])
    assert state.alignment == pytest.approx(1.0)
    assert method.training
