"""A look at a network leaves nothing behind."""

import pytest
import torch
from torch import nn

from isosphere.models import evaluation_mode


def network() -> tuple[nn.Module, nn.Module]:
    """A network in training mode with a part that is not, and that part."""
    norm = nn.BatchNorm1d(3)
    module = nn.Sequential(norm, nn.Dropout(0.5)).train()
    norm.eval()
    return module, norm


def test_modes_gradients_and_generator_are_put_back():
    module, norm = network()
    state = torch.get_rng_state()
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
        module(torch.rand(4, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert [part.training for part in module.modules()] == [True, False, True]
    assert torch.equal(norm.state_dict()["running_mean"], torch.zeros(3))


def test_also_after_an_error():
    module, _ = network()
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="running_mean"), evaluation_mode(module):
        module(torch.rand(4, 5))  # of another width, and random
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert [part.training for part in module.modules()] == [True, False, True]


def test_a_function_without_modules():
    state = torch.get_rng_state()
    with evaluation_mode(None, device=torch.device("cpu")):
        torch.rand(1)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
