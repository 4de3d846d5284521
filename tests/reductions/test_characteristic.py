"""Sliced characteristic functions against the formula written out."""

import pytest
import torch

from isosphere.reductions import _characteristic as characteristic
from isosphere.reductions import sliced_characteristic_distance


def written_out(z, directions, spacing, weights, target):
    s = spacing * torch.arange(1, len(weights) + 1, dtype=z.dtype)
    angles = (z @ directions.T)[..., None] * s  # (*views, n, slices, knots)
    ecf = torch.exp(1j * angles).mean(-3)
    return ((ecf - target).abs().square() * weights).sum(-1).mean(-1)


@pytest.fixture(params=[1 << 17, 20], ids=["one block", "blocks of a few slices"])
def _block(request, monkeypatch):
    monkeypatch.setitem(characteristic._BLOCK, "cpu", request.param)


@pytest.mark.usefixtures("_block")
def test_value_and_gradient():
    z = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    directions = torch.nn.functional.normalize(torch.randn(13, 5, dtype=torch.float64), dim=-1)
    weights, target = torch.rand(8, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    rule = {"spacing": 0.625, "weights": weights, "target": target}
    mine = sliced_characteristic_distance(z, directions, **rule)
    theirs = written_out(z, directions, 0.625, weights, target)
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)
    upstream = torch.tensor([1.0, -2.0], dtype=torch.float64)
    a, b = (torch.autograd.grad((v * upstream).sum(), z)[0] for v in (mine, theirs))
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: sliced_characteristic_distance(x, directions, **rule), z)


def test_recurrence_holds_its_accuracy_in_float32():
    z = torch.randn(500, 16)
    directions = torch.nn.functional.normalize(torch.randn(64, 16), dim=-1)
    weights, target = torch.ones(8), torch.zeros(8)
    mine = sliced_characteristic_distance(z, directions, spacing=0.625, weights=weights, target=target)
    exact = written_out(z.double(), directions.double(), 0.625, weights.double(), target.double())
    assert abs(mine.double() - exact) < 1e-6 * exact
