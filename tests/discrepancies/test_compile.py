"""A compiled step that contains a discrepancy is one graph, and computes what the eager step does."""

import copy
import shutil

import pytest
import torch

from isosphere.discrepancies import DISCREPANCIES, MMD, build_discrepancy
from isosphere.kernels import HeatKernel
from isosphere.sphere import normalize

DIM = 12


def make_step(discrepancy):
    network = torch.nn.Linear(6, DIM)

    def step(x, upstream):
        network.zero_grad()
        return (discrepancy(normalize(network(x))) * upstream).sum()

    return network, step


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.parametrize("name", DISCREPANCIES)
def test_one_graph_and_the_same_bits(name):
    discrepancy = build_discrepancy(name, DIM)
    network, step = make_step(discrepancy)
    x, upstream = torch.randn(2, 30, 6), torch.tensor([1.0, -0.5])
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for _ in range(2):  # moved directions must be seen by the same graph
        eager = step(x, upstream)
        (expected,) = torch.autograd.grad(eager, network.weight)
        value = compiled(x, upstream)
        (gradient,) = torch.autograd.grad(value, network.weight)
        torch.testing.assert_close(value, eager, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)
        discrepancy.after_step()
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled(x, upstream)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler for the default backend")
def test_default_backend():
    _, step = make_step(build_discrepancy("susreg", DIM))
    x, upstream = torch.randn(2, 30, 6), torch.ones(2)
    expected = step(x, upstream)
    torch.testing.assert_close(torch.compile(step, fullgraph=True)(x, upstream), expected)


def test_a_copy_is_an_operator_of_its_own():
    one = MMD(HeatKernel(DIM))
    other = copy.deepcopy(one)
    other.kernel = HeatKernel(DIM, concentration=6.0)
    z = normalize(torch.randn(20, DIM))
    for d in (one, other):
        assert torch.compile(d, backend="aot_eager", fullgraph=True)(z) == d(z)
    assert one(z) != other(z)


def test_second_derivatives_of_the_operator_are_refused():
    z = normalize(torch.randn(20, DIM)).requires_grad_()
    compiled = torch.compile(MMD(HeatKernel(DIM)), backend="aot_eager", fullgraph=True)
    (gradient,) = torch.autograd.grad(compiled(z), z, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
