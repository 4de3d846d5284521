"""Batch norm over ranks equals one process on the concatenated batch: outputs, statistics, gradients."""

import pytest
import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from isosphere.methods import build_method
from isosphere.models import MLPHead, RankBatchNorm, SmallConv, synchronise

SHAPES = {"rows": (), "images": (3, 2), "sequences": (4,)}
CASES = {
    "default": {},
    "plain": {"affine": False},
    "cumulative": {"momentum": None},
    "untracked": {"track_running_stats": False},
    "eps": {"eps": 0.1, "momentum": 0.3},
}


def plain(rest, options):
    kind = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[rest]
    return kind(5, **options).double()


def two_batches(rank, group, batches, targets, options, state):
    """Two training steps' statistics; outputs and gradients of the second."""
    norm = plain(batches[0].ndim - 2, options)
    norm.load_state_dict(state)
    norm = synchronise(norm, group) if group else norm
    norm(batches[0])
    x = batches[1].clone().requires_grad_()
    y = norm(x)
    (y * targets).sum().backward()
    gradients = [p.grad for p in norm.parameters()]
    return y.detach(), x.grad, gradients, dict(norm.named_buffers())


@pytest.mark.parametrize("counts", [(7, 3), (4, 0, 6)], ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_ranks_equal_one_process(ranks, shape, case, counts):
    options, rest = CASES[case], SHAPES[shape]
    norm = plain(len(rest), options)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(5))
    state = norm.state_dict()

    def draw():
        return [3 + 2 * torch.randn(n, 5, *rest, dtype=torch.float64) for n in counts]

    first, second, targets = draw(), draw(), draw()
    whole = [torch.cat(part) for part in (first, second, targets)]
    y, gradient, parameters, buffers = two_batches(0, None, whole[:2], whole[2], options, state)
    arguments = [([a, b], t, options, state) for a, b, t in zip(first, second, targets, strict=True)]
    outcomes = ranks.run(two_batches, len(counts), arguments)
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(torch.cat([o[0] for o in outcomes]), y, **close)
    torch.testing.assert_close(torch.cat([o[1] for o in outcomes]), gradient, **close)
    for i, parameter in enumerate(parameters):
        torch.testing.assert_close(sum(o[2][i] for o in outcomes), parameter, **close)
    for _, _, _, theirs in outcomes:
        assert theirs.keys() == buffers.keys()
        for key, value in buffers.items():
            torch.testing.assert_close(theirs[key], value, **close)


def in_bfloat16(rank, group, x):
    norm = synchronise(nn.BatchNorm1d(4), group)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
        wide = norm(x.float())
    return y.detach(), wide.detach()


def test_statistics_of_bfloat16_are_those_of_float32(ranks):
    """A mean of 1000 and a deviation of 4: sums in bfloat16 would lose all of it."""
    x = (1000 + 4 * torch.randn(64, 4)).bfloat16()
    outcomes = ranks.run(in_bfloat16, 2, [(x[:40],), (x[40:],)])
    expected = nn.BatchNorm1d(4)(x.float())
    assert outcomes[0][0].dtype == torch.bfloat16
    assert outcomes[0][1].dtype == torch.float32
    torch.testing.assert_close(torch.cat([o[0] for o in outcomes]).float(), expected, rtol=0.01, atol=0.01)
    torch.testing.assert_close(torch.cat([o[1] for o in outcomes]), expected, rtol=1e-3, atol=1e-3)


def second_derivative(rank, group, x):
    norm = RankBatchNorm(3, group=group).double()
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def test_second_derivatives(ranks):
    x = torch.randn(9, 3, dtype=torch.float64)
    parts = ranks.run(second_derivative, 2, [(x[:5],), (x[5:],)])
    torch.testing.assert_close(torch.cat(parts), second_derivative(0, False, x), rtol=1e-8, atol=1e-8)


def one_value(rank, group, x):
    try:
        RankBatchNorm(3, group=group)(x)
    except ValueError as error:
        return str(error)
    return None


def test_one_value_is_refused_on_every_rank(ranks):
    said = ranks.run(one_value, 2, [(torch.randn(1, 3),), (torch.randn(0, 3),)])
    assert (
        said[0] == said[1] == "got 1 value per channel over all ranks, expected at least 2 in training mode"
    )


def outputs_of_a_network(rank, group, x, state):
    torch.manual_seed(0)
    network = nn.Sequential(SmallConv(width=4), MLPHead(32, 8, 16))
    network.load_state_dict(state)
    if group:
        synchronise(network, group)
    y = network(x)
    y.square().sum().backward()
    return y.detach(), [p.grad for p in network.parameters()], network.state_dict()


def test_a_whole_network(ranks):
    state = nn.Sequential(SmallConv(width=4), MLPHead(32, 8, 16)).state_dict()
    x = torch.randn(10, 3, 16, 16)
    y, gradients, buffers = outputs_of_a_network(0, None, x, state)
    outcomes = ranks.run(outputs_of_a_network, 2, [(x[:6], state), (x[6:], state)])
    torch.testing.assert_close(torch.cat([o[0] for o in outcomes]), y, rtol=1e-4, atol=1e-5)
    for i, gradient in enumerate(gradients):
        torch.testing.assert_close(sum(o[1][i] for o in outcomes), gradient, rtol=1e-3, atol=1e-3)
    for key, value in buffers.items():
        torch.testing.assert_close(outcomes[1][2][key], value, rtol=1e-4, atol=1e-5)


def test_conversion_keeps_names_parameters_modes_and_sharing():
    shared = nn.BatchNorm1d(4)
    network = nn.Sequential(shared, nn.Linear(4, 4), shared, nn.BatchNorm1d(4).eval())
    before = network.state_dict()
    parameters = list(network.parameters())
    assert synchronise(network) is network
    assert network.state_dict().keys() == before.keys()
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert isinstance(network[0], RankBatchNorm)
    assert network[0] is network[2]
    assert network[0].training
    assert not network[3].training
    assert synchronise(network)[0] is network[0]


def test_on_one_rank_it_is_torchs_bit_for_bit():
    x = torch.randn(8, 4)
    theirs = nn.BatchNorm1d(4)
    ours = RankBatchNorm.like(nn.BatchNorm1d(4))
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_timms_norm_with_activation_keeps_it():
    network = timm.create_model("efficientnet_b0", num_classes=0).eval()
    assert any(isinstance(m, BatchNormAct2d) for m in network.modules())
    x = torch.randn(2, 3, 32, 32)
    before, names = network(x), network.state_dict().keys()
    synchronise(network)
    assert not any(isinstance(m, BatchNormAct2d) for m in network.modules())
    assert torch.equal(network(x), before)
    assert network.state_dict().keys() == names


def test_what_is_not_a_plain_batch_norm_is_refused():
    class Odd(nn.BatchNorm1d):
        def forward(self, input):
            return input

    with pytest.raises(TypeError, match="got Odd"):
        synchronise(nn.Sequential(Odd(3)))
    with pytest.raises(ValueError, match="group=False"):
        synchronise(nn.BatchNorm1d(3), False)
    with pytest.raises(ValueError, match=r"got shape \(4, 2\), expected \(n, 3, \*\)"):
        RankBatchNorm(3)(torch.randn(4, 2))


class Tiny(nn.Module):
    feature_dim = 10

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 10, 3, 2, bias=False), nn.BatchNorm2d(10), nn.ReLU())

    def forward(self, x):
        return self.layers(x).mean((2, 3))


def steps_of_a_method(rank, group, name, views, state):
    """Two steps as DDP makes them, teacher and batch norms included: gradients averaged over ranks."""
    method = build_method(name, Tiny(), hidden=16, **({} if name.startswith("vje") else {"dim": 8})).double()
    method.load_state_dict(state)
    method.group = group
    world = 1
    if group:
        synchronise(method, group)
        world = group.size()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    for step in range(2):
        optimizer.zero_grad()
        method(views).total.backward()
        if group:
            for p in method.parameters():
                if p.grad is not None:
                    torch.distributed.all_reduce(p.grad, group=group)
                    p.grad /= world
        optimizer.step()
        method.after_step((step + 1) / 2)
    return {k: v.detach() for k, v in method.state_dict().items()}


@pytest.mark.parametrize(
    "name",
    ["kl-vmf", "kl-deep", "mmd-ema", "byol", "simsiam", "barlow-twins", "vje", "vje+mmd", "vi-simsiam"],
)
def test_methods_with_batch_norm_train_alike(ranks, name):
    """Weights, teacher and running statistics after two steps on unequal batches."""
    torch.manual_seed(0)
    method = build_method(name, Tiny(), hidden=16, **({} if name.startswith("vje") else {"dim": 8})).double()
    counts = (7, 4)
    state = method.prepare(n=sum(counts), views=2).state_dict()
    views = [[torch.randn(n, 3, 8, 8, dtype=torch.float64) for _ in range(2)] for n in counts]
    whole = [torch.cat(v) for v in zip(*views, strict=True)]
    expected = steps_of_a_method(0, False, name, whole, state)
    for theirs in ranks.run(steps_of_a_method, 2, [(name, mine, state) for mine in views]):
        for key, value in expected.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-6, atol=1e-8, msg=key)
