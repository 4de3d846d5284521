"""What of an encoder stays as it is in training."""

import copy

import pytest
import torch
from torch import nn

from isosphere.errors import UsageError
from isosphere.models import RankBatchNorm, build_encoder, synchronise

NAMES = ["small-conv", "resnet10t", "tf_efficientnet_lite0"]


def encoder_of(name):
    torch.manual_seed(0)
    return build_encoder(name, image_size=32)


def norms_of(encoder):
    return [part for part in encoder.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("name", NAMES)
def test_frozen_batch_norm_is_that_of_evaluation(name):
    encoder, x = encoder_of(name), torch.randn(4, 3, 32, 32)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    expected = encoder.eval()(x)
    encoder.freeze(batch_norm=True)
    followed = copy.deepcopy(encoder)  # as a teacher's copy is made
    for network in (encoder, followed, synchronise(copy.deepcopy(encoder), group=None)):
        network.train()
        assert torch.equal(network(x), expected)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert network.training
        assert network.backbone.training
        assert not any(norm.training for norm in norms_of(network))
    free = [key for key, p in encoder.named_parameters() if not p.requires_grad]
    assert len(free) == 2 * len(norms_of(encoder)) > 0
    encoder.eval().train()
    assert not any(norm.training for norm in norms_of(encoder))


def test_a_frozen_norm_over_ranks_is_still_one():
    encoder = encoder_of("small-conv")
    encoder.freeze(batch_norm=True)
    network = synchronise(encoder).train()
    assert all(isinstance(norm, RankBatchNorm) for norm in norms_of(network))
    assert not any(norm.training for norm in norms_of(network))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_stages_stay(name):
    encoder = encoder_of(name)
    encoder.freeze(2)
    encoder.train()
    still = [key for key, p in encoder.backbone.named_parameters() if not p.requires_grad]
    names = [key for key, _ in encoder.backbone.named_parameters()]
    assert still == names[: len(still)]
    assert 0 < len(still) < len(names)
    norms = [norm for norm in norms_of(encoder) if not norm.training]
    assert 0 < len(norms) < len(norms_of(encoder))
    encoder(torch.randn(4, 3, 32, 32)).sum().backward()
    assert {key for key, p in encoder.backbone.named_parameters() if p.grad is None} == set(still)


def test_one_stage_at_least_learns():
    encoder = encoder_of("small-conv")
    with pytest.raises(UsageError, match=r"small-conv has 5 stages.*\"freeze\": 4"):
        encoder.freeze(5)
    encoder.freeze(4)


@pytest.mark.parametrize("name", [*NAMES, "vit_tiny_patch16_224"])
def test_layers_are_told_from_the_input_on(name):
    encoder = encoder_of(name)
    layers = encoder.layers()
    assert layers.keys() == dict(encoder.named_parameters()).keys()
    order = list(dict.fromkeys(layers.values()))
    assert order == sorted(order)
    assert order[0] == 0
    assert len(order) > 3
