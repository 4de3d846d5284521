"""A JEPA on several ranks with unequal batches equals one process on all of the images."""

import pytest
import torch
from torch import nn

from isosphere.discrepancies import build_discrepancy
from isosphere.methods import JEPA


def total_and_gradient(rank, group, name, n, views, weights):
    torch.manual_seed(rank)
    discrepancy = build_discrepancy(name, 6)
    discrepancy.group = group
    encoder, head = nn.Linear(5, 7, bias=False).double(), nn.Linear(7, 6, bias=False).double()
    with torch.no_grad():
        encoder.weight.copy_(weights[0])
        head.weight.copy_(weights[1])
    method = JEPA(encoder, head, discrepancy).double().prepare(n=n, views=3)
    loss = method(views)
    loss.total.backward()
    return loss.total.detach(), loss.parts, encoder.weight.grad, method.weight


@pytest.mark.parametrize("name", ["mmd-heat", "kl-vmf", "susreg", "sigreg"])
@pytest.mark.parametrize("counts", [(7, 3), (8, 0), (4, 2, 6)], ids=str)
def test_ranks_equal_one_process(ranks, name, counts):
    weights = torch.randn(7, 5, dtype=torch.float64), torch.randn(6, 7, dtype=torch.float64)
    views = [[torch.randn(n, 5, dtype=torch.float64) for _ in range(3)] for n in counts]
    whole = [torch.cat(v) for v in zip(*views, strict=True)]
    total, parts, gradient, weight = total_and_gradient(0, False, name, sum(counts), whole, weights)
    world = len(counts)
    given = [(name, sum(counts), mine, weights) for mine in views]
    outcomes = ranks.run(total_and_gradient, world, given)
    for theirs, their_parts, _, their_weight in outcomes:
        assert their_weight == weight
        torch.testing.assert_close(theirs, total, rtol=1e-9, atol=1e-10)
        for key, value in parts.items():
            torch.testing.assert_close(their_parts[key], value, rtol=1e-9, atol=1e-10)
    averaged = sum(o[2] for o in outcomes) / world
    torch.testing.assert_close(averaged, gradient, rtol=1e-7, atol=1e-9)
