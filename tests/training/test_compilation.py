"""Compiled networks: the same numbers, the same names, and words where there is no compiler."""

import copy

import pytest
import torch

from isosphere.models import evaluation_mode
from isosphere.training import _hardware as hardware
from isosphere.training._hardware import compile_networks, compiler_missing
from tests.training.test_gradient import assert_close, gradients, some_method, some_views

CPU = torch.device("cpu")


def test_without_a_compiler_networks_stay_as_they_are(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    method = some_method("kl-vmf")
    said = compile_networks(method, True, CPU)
    assert said is not None
    assert "No working C++ compiler found" in said
    assert "run uncompiled" in said
    assert method.encoder._compiled_call_impl is None


def test_auto_leaves_a_cpu_alone_and_nothing_is_compiled_unasked(monkeypatch):
    monkeypatch.setattr(hardware, "compiler_missing", lambda device: pytest.fail("tried"))
    assert compile_networks(some_method("kl-vmf"), "auto", CPU) is None
    assert compile_networks(some_method("kl-vmf"), False, CPU) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_networks_give_the_same_numbers():
    """Loss, gradient, dropout and state dict; a look at the method in between compiles nothing."""
    if compiler_missing(CPU):
        pytest.skip("no compiler")
    plain = some_method("byol", dropout=0.3).train()
    compiled = copy.deepcopy(plain)
    assert compile_networks(compiled, True, CPU) == "encoder, head, predictor, teacher, at the first step"
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    with evaluation_mode(compiled):
        compiled.embed(some_views()[0])
    assert graphs["unique_graphs"] == before
    losses = []
    for method in (plain, compiled):
        torch.manual_seed(3)
        loss = method(some_views()).total
        loss.backward()
        losses.append(loss.item())
    assert graphs["unique_graphs"] > before
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_close(gradients(compiled), gradients(plain), 1e-4)
    ours, theirs = compiled.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5)
