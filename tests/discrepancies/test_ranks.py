"""On several ranks with different, unequal data: value and parameter gradient are those of one process on all of it."""

import pytest
import torch

from isosphere.discrepancies import DISCREPANCIES, KL, MMD, GaussianKSD, SUSReg, build_discrepancy
from isosphere.discrepancies._operator import as_operator
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.sphere import normalize

DIM = 6
BUILD = {name: (build_discrepancy, (name, DIM)) for name in DISCREPANCIES} | {
    "mmd-u": (MMD, (HeatKernel(DIM), "u")),
    "kl-full": (KL, (VonMisesFisherKernel(DIM), False)),
    "susreg-u": (SUSReg, (DIM, 64, 17, 5.0, None, "exact", 0, "u")),
    "kerjepa-ksd-u": (GaussianKSD, (DIM, None, "gaussian", "u")),
}


def value_and_gradient(rank, group, build, arguments, x, weight, upstream):
    """One rank's global value, and the gradient that DistributedDataParallel would average."""
    torch.manual_seed(rank)
    discrepancy = build(*arguments)
    discrepancy.group = group
    w = weight.clone().requires_grad_()
    value = (discrepancy(normalize(x @ w)) * upstream).sum()
    value.backward()
    return value.detach(), w.grad


@pytest.mark.parametrize("counts", [(7, 3), (5, 0, 4), (1, 9, 3)], ids=str)
@pytest.mark.parametrize("name", BUILD)
def test_ranks_equal_one_process(ranks, name, counts):
    build, arguments = BUILD[name]
    views, channels = 2, 5
    x = [torch.randn(views, n, channels, dtype=torch.float64) for n in counts]
    weight = torch.randn(channels, DIM, dtype=torch.float64)
    upstream = torch.tensor([1.0, -0.4], dtype=torch.float64)
    whole, gradient = value_and_gradient(0, False, build, arguments, torch.cat(x, 1), weight, upstream)
    world = len(counts)
    outcomes = ranks.run(
        value_and_gradient, world, [(build, arguments, mine, weight, upstream) for mine in x]
    )
    for value, _ in outcomes:
        torch.testing.assert_close(value, whole, rtol=1e-11, atol=1e-12)
    averaged = sum(g for _, g in outcomes) / world
    torch.testing.assert_close(averaged, gradient, rtol=1e-9, atol=1e-11)


def alone(rank, group, x):
    return MMD(HeatKernel(DIM), group=False)(x)


def test_group_false_is_this_rank_alone(ranks):
    x = [normalize(torch.randn(n, DIM)) for n in (4, 6)]
    values = ranks.run(alone, 2, [(mine,) for mine in x])
    for mine, value in zip(x, values, strict=True):
        assert value == MMD(HeatKernel(DIM))(mine)


def twice_differentiated(rank, group, x):
    discrepancy = build_discrepancy("mmd-heat", DIM)
    discrepancy.group = group
    z = x.requires_grad_()
    (gradient,) = torch.autograd.grad(discrepancy(z), z, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives of a statistic are for one rank"):
        gradient.sum().backward()
    return True


def test_second_derivatives_over_ranks_are_refused_in_words(ranks):
    assert ranks.run(twice_differentiated, 2, [(normalize(torch.randn(n, DIM)),) for n in (4, 6)]) == [
        True,
        True,
    ]


def as_operator_of_ranks(rank, group, x, weight):
    """As above, through the operator that a compiled step calls."""
    discrepancy = build_discrepancy("kl-vmf", DIM)
    discrepancy.group = group
    w = weight.clone().requires_grad_()
    value = as_operator(discrepancy, normalize(x @ w))
    (value * (1.0 + rank)).backward()  # upstream gradients may differ
    return value.detach(), w.grad


def test_the_compilers_operator_is_that_of_all_ranks(ranks):
    x = [torch.randn(n, 5, dtype=torch.float64) for n in (7, 3)]
    weight = torch.randn(5, DIM, dtype=torch.float64)
    whole, gradient = as_operator_of_ranks(0, False, torch.cat(x), weight)
    outcomes = ranks.run(as_operator_of_ranks, 2, [(mine, weight) for mine in x])
    for value, _ in outcomes:
        torch.testing.assert_close(value, whole, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(sum(g for _, g in outcomes) / 2, gradient * 1.5, rtol=1e-9, atol=1e-11)
