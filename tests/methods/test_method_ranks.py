"""On ranks with unequal batches every method has the value and the parameter gradient of one process on all images."""

import pytest
import torch
from torch import nn

from isosphere.discrepancies import KL, MMD, SIGReg, SUSReg, Uniformity
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.methods import (
    BYOL,
    JEPA,
    AlignUniform,
    BarlowTwins,
    Contrastive,
    DeepJEPA,
    NetworkEnergy,
    Regulariser,
    SimCLR,
    SimSiam,
    VICReg,
)

CHANNELS, FEATURES, DIM = 5, 7, 6


def networks():
    """Without batch norm, whose synchronisation is another matter."""
    encoder = nn.Sequential(nn.Linear(CHANNELS, FEATURES), nn.Tanh())
    return encoder, nn.Linear(FEATURES, DIM), nn.Linear(DIM, DIM)


def simple(kind, **options):
    encoder, head, _ = networks()
    return kind(encoder, head, **options)


def byol(*terms):
    return BYOL(*networks(), terms=terms)


def byol_with_energy():
    parts = networks()
    return BYOL(*parts, terms=[NetworkEnergy(nn.ModuleList(parts))])


def jepa(discrepancy):
    encoder, head, _ = networks()
    return JEPA(encoder, head, discrepancy, teacher=0.9)


def deep():
    encoder, head, _ = networks()
    tests = (KL(VonMisesFisherKernel(width, concentration=3.0)) for width in (DIM, FEATURES))
    method = DeepJEPA(encoder, head, *tests)
    method.standardise = nn.Identity()  # batch norm is another matter
    return method


BUILD = {
    "mmd-ema": (lambda: jepa(MMD(HeatKernel(DIM))), (), {}),
    "sphere-jepa-ema": (lambda: jepa(SUSReg(DIM, num_slices=16)), (), {}),
    "lejepa-ema": (lambda: jepa(SIGReg(DIM, num_slices=16)), (), {}),
    "kl-deep": (deep, (), {}),
    "simclr": (simple, (SimCLR,), {"temperature": 0.2}),
    "align-uniform": (simple, (AlignUniform,), {}),
    "align-uniform, power 1": (simple, (AlignUniform,), {"power": 1.0}),
    "vicreg": (simple, (VICReg,), {}),
    "barlow-twins": (simple, (BarlowTwins,), {}),
    "simsiam": (lambda: SimSiam(*networks()), (), {}),
    "byol": (byol, (), {}),
    "byol+mmd": (lambda: byol(Regulariser(MMD(HeatKernel(DIM)))), (), {}),
    "byol-uniformity, predictions": (
        lambda: byol(Regulariser(Uniformity(), place="prediction", weight=0.3)),
        (),
        {},
    ),
    "byol+susreg": (lambda: byol(Regulariser(SUSReg(DIM, num_slices=16))), (), {}),
    "byol+sigreg": (lambda: byol(Regulariser(SIGReg(DIM, num_slices=16))), (), {}),
    "byol+contrastive": (lambda: byol(Contrastive(0.3)), (), {}),
    "byol-mhe": (byol_with_energy, (), {}),
    "simsiam+mmd": (
        lambda: SimSiam(*networks(), regulariser=Regulariser(MMD(HeatKernel(DIM)))),
        (),
        {},
    ),
    "vicreg+sigreg": (simple, (VICReg,), {"regulariser": Regulariser(SIGReg(DIM, num_slices=16))}),
}


def prepared(rank, group, name, views, state, n):
    """The weight of an energy, which is not in the state yet, is found here, by all ranks together."""
    torch.manual_seed(rank)
    build, arguments, options = BUILD[name]
    method = build(*arguments, **options).double()
    method.load_state_dict(state)
    method.group = group
    return method.prepare(n=n, views=len(views), batch=views)


def total_and_gradient(rank, group, name, views, state, n):
    method = prepared(rank, group, name, views, state, n)
    loss = method(views)
    loss.total.backward()
    gradients = {k: p.grad for k, p in method.named_parameters() if p.requires_grad}
    weights = {k: v for k, v in method.named_buffers() if "weight" in k}
    return loss.total.detach(), loss.parts, gradients, weights


@pytest.mark.parametrize("counts", [(7, 3), (8, 0), (4, 2, 6)], ids=str)
@pytest.mark.parametrize("name", BUILD)
def test_ranks_equal_one_process(ranks, name, counts):
    build, arguments, options = BUILD[name]
    torch.manual_seed(3)
    n = sum(counts)
    method = build(*arguments, **options).double().prepare(n=n, views=3)
    with torch.no_grad():
        for key, parameter in method.named_parameters():
            if key.startswith("teacher"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    state = method.state_dict()
    views = [[torch.randn(n, CHANNELS, dtype=torch.float64) for _ in range(3)] for n in counts]
    whole = [torch.cat(v) for v in zip(*views, strict=True)]
    total, parts, gradients, weights = total_and_gradient(0, False, name, whole, state, n)
    world = len(counts)
    outcomes = ranks.run(total_and_gradient, world, [(name, mine, state, n) for mine in views])
    for theirs, their_parts, _, their_weights in outcomes:
        torch.testing.assert_close(theirs, total, rtol=1e-9, atol=1e-10)
        for key, value in parts.items():
            torch.testing.assert_close(their_parts[key], value, rtol=1e-9, atol=1e-10)
        for key, value in weights.items():
            torch.testing.assert_close(their_weights[key], value, rtol=1e-9, atol=0)
    for key, gradient in gradients.items():
        averaged = sum(o[2][key] for o in outcomes) / world
        torch.testing.assert_close(averaged, gradient, rtol=1e-7, atol=1e-9, msg=key)


def alone(rank, group, views, state):
    method = simple(SimCLR).double()
    method.load_state_dict(state)
    method.group = False
    return method(views).total.detach()


def test_group_false_is_this_rank_alone(ranks):
    method = simple(SimCLR).double()
    views = [[torch.randn(n, CHANNELS, dtype=torch.float64) for _ in range(2)] for n in (4, 6)]
    values = ranks.run(alone, 2, [(mine, method.state_dict()) for mine in views])
    for mine, value in zip(views, values, strict=True):
        torch.testing.assert_close(value, method(mine).total.detach(), rtol=1e-12, atol=0)


class Step(nn.Module):
    """The method as DistributedDataParallel likes it: tensors out."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, views):
        return self.method(views).total


def steps_under_ddp(rank, group, name, views, state, n):
    method = prepared(rank, group, name, views, state, n)
    network = (
        nn.parallel.DistributedDataParallel(Step(method), process_group=group) if group else Step(method)
    )
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        network(views).backward()
        optimizer.step()
        method.after_step((step + 1) / 3)
    return {k: v.detach() for k, v in method.state_dict().items()}


@pytest.mark.parametrize("name", ["simclr", "byol", "byol-mhe", "byol+susreg"])
def test_training_under_ddp_is_that_of_one_process(ranks, name):
    """Three steps, the energy's weight found before the first, teacher and directions moved after each."""
    build, arguments, options = BUILD[name]
    torch.manual_seed(3)
    state = build(*arguments, **options).double().prepare(n=8, views=3).state_dict()
    views = [[torch.randn(n, CHANNELS, dtype=torch.float64) for _ in range(3)] for n in (5, 3)]
    whole = steps_under_ddp(0, False, name, [torch.cat(v) for v in zip(*views, strict=True)], state, 8)
    for theirs in ranks.run(steps_under_ddp, 2, [(name, mine, state, 8) for mine in views]):
        for key, value in whole.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-7, atol=1e-9, msg=key)
