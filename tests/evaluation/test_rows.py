"""Rows that are read block by block say what rows in memory say."""

import pytest
import torch

from isosphere.evaluation import _rows as rows
from isosphere.evaluation import linear_predict
from isosphere.evaluation._rows import Rows


def data(n=300, p=7):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, p, generator=generator) * torch.linspace(0.1, 4, p) + torch.linspace(-3, 3, p)
    x[:, 2] = 1.5
    return x, torch.randint(0, 4, (n,), generator=generator)


def whole(rows):
    return torch.cat([block for _, block in rows.blocks()])


@pytest.fixture
def large(monkeypatch):
    """Everything is large, and a block holds three rows."""
    monkeypatch.setattr(rows, "_WHOLE", 0)
    monkeypatch.setattr(rows, "_BLOCK", 21)


def test_blocks_are_the_rows_standardised(large):
    x, _ = data()
    chosen = torch.randperm(300, generator=torch.Generator().manual_seed(1))[:100]
    own, other = Rows(x).subset(chosen).standardised(x[:5])
    assert max(len(block) for _, block in own.blocks()) == 3
    expected = (x[chosen] - x[chosen].mean(0)) / x[chosen].std(0, correction=0)
    expected[:, 2] = 0
    torch.testing.assert_close(whole(own), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own.mean(), torch.zeros(7), rtol=0, atol=1e-5)
    shifted = own.centred(torch.ones(7) * torch.tensor([1, 1, 0, 1, 1, 1, 1]))
    torch.testing.assert_close(
        whole(shifted), expected - torch.tensor([1.0, 1, 0, 1, 1, 1, 1]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        whole(own.subset(torch.tensor([4, 1]))), expected[[4, 1]], rtol=1e-5, atol=1e-5
    )
    assert whole(other).shape == (5, 7)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adamw"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.uint8])
def test_a_probe_of_large_features_is_that_of_small_ones(solver, kind, monkeypatch):
    x, y = data()
    x = ((x + 20) * 6).to(kind) if kind is torch.uint8 else x.to(kind)
    options = {"solver": solver, "epochs": (3,), "penalties": (1e-2, 1e-3)}
    small = linear_predict(x, y, x[:50], **options)
    monkeypatch.setattr(rows, "_WHOLE", 0)
    monkeypatch.setattr(rows, "_BLOCK", 70)
    found = linear_predict(x, y, x[:50], **options)
    assert found.penalty == small.penalty
    assert (found.labels == small.labels).double().mean() >= 0.96
    torch.testing.assert_close(found.model.weight, small.model.weight, rtol=2e-2, atol=5e-4)


def test_wrong_features_are_refused():
    with pytest.raises(ValueError, match="expected \\(n, p\\)"):
        Rows.checked(torch.zeros(3), "x")
    with pytest.raises(ValueError, match="non-finite"):
        Rows.checked(torch.tensor([[float("inf")]]), "x")
