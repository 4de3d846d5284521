"""Methods within PyTorch's transformations: what composes, to 1e-5, and what is refused in a sentence."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

from isosphere.methods import METHODS
from tests.methods.test_contract import build, some_views
from tests.names import FROM_VIEWS

# One of each kind of loss; aliases of a kind share its code.
KINDS = [
    *("kl-vmf", "mmd-heat", "mmd-bandlimited", "sphere-jepa", "kl-deep", "mmd-ema", "byol", "byol+mmd"),
    *("byol+contrastive", "simclr", "align-uniform", "vicreg", "barlow-twins", "simsiam", "vje", "vje+mmd"),
    *("byol-mhe", "vi-simsiam"),
]


def parts(name, dtype=torch.float32):
    """In evaluation mode, so that batch norm draws the same from any batch; with its parameters and gradient."""
    method, views = build(name, views=2).to(dtype).eval(), [view.to(dtype) for view in some_views(0)]
    parameters = {k: p for k, p in method.named_parameters() if p.requires_grad}
    return method, views, parameters, gradient(method, views, parameters)


def gradient(method, views, parameters):
    found = torch.autograd.grad(method(views).total, list(parameters.values()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters.values(), strict=True)]


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_every_kind_is_there():
    assert set(KINDS) <= METHODS.keys()
    assert {METHODS[name].owner for name in KINDS} == {METHODS[name].owner for name in FROM_VIEWS}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # torch's own, at its first jvp
@pytest.mark.parametrize("name", KINDS)
def test_functional_gradient_and_directional_derivative(name):
    method, views, parameters, expected = parts(name, torch.float64)

    def loss(values):
        return functional_call(method, values, (views,)).total

    values = {k: v.detach() for k, v in parameters.items()}
    found = grad(loss)(values)
    assert_close([found[k] for k in values], expected)
    tangents = {k: torch.randn_like(v) for k, v in values.items()}
    _, along = jvp(loss, (values,), (tangents,))
    theirs = sum((g * t).sum() for g, t in zip(expected, tangents.values(), strict=True))
    torch.testing.assert_close(along, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_losses_of_several_batches_at_once(name):
    method, views, _, _ = parts(name)
    batches = torch.stack([torch.stack(views), torch.stack(views).flip(1)])
    expected = torch.stack([method(list(batch)).total for batch in batches])
    assert_close(vmap(lambda batch: method(list(batch)).total, randomness="same")(batches), expected)


@pytest.mark.parametrize("name", KINDS)
def test_activation_checkpointing(name):
    method, views, parameters, expected = parts(name)

    class Checkpointed(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, x):
            return checkpoint(self.encoder, x, use_reentrant=False)

    method.encoder = Checkpointed(method.encoder)
    assert_close(gradient(method, views, parameters), expected)


@pytest.mark.parametrize("name", KINDS)
def test_a_step_is_one_graph(name):
    method, views, parameters, expected = parts(name)
    torch._dynamo.reset()
    compiled = torch.compile(method, backend="aot_eager", fullgraph=True)
    assert_close(gradient(compiled, views, parameters), expected)


def test_an_encoder_with_its_head_is_exported():
    method, views, _, _ = parts("kl-vmf")
    network = nn.Sequential(method.encoder, method.head)
    rows = torch.export.Dim("n", min=2)
    exported = torch.export.export(network, (views[0],), dynamic_shapes=({0: rows},)).module()
    assert_close(exported(views[1][:5]), network(views[1][:5]))


@pytest.mark.parametrize("name", ["mmd-heat", "kl-vmf", "sphere-jepa", "simclr", "byol+mmd", "vicreg"])
def test_second_derivatives(name):
    """Of the squared gradient along a direction, against a central difference, in float64."""
    method = build(name, views=2).double().eval()
    views = [view.double() for view in some_views(0)]
    parameters = [p for p in method.parameters() if p.requires_grad]

    def square(create_graph=False):
        found = torch.autograd.grad(
            method(views).total, parameters, create_graph=create_graph, allow_unused=True
        )
        return sum(g.square().sum() for g in found if g is not None)

    second = torch.autograd.grad(square(True), parameters, allow_unused=True)
    direction = [torch.randn_like(p) for p in parameters]
    expected = sum((g * t).sum() for g, t in zip(second, direction, strict=True) if g is not None)
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            for p, t in zip(parameters, direction, strict=True):
                p.add_(step * t)
        ends.append(square().item())
        with torch.no_grad():
            for p, t in zip(parameters, direction, strict=True):
                p.sub_(step * t)
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)
