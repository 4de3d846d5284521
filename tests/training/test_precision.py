"""``precision: auto``: measured once, the faster one taken, recorded and not asked again."""

import numpy as np
import pytest
import torch

from isosphere.methods import build_method
from isosphere.models import Encoder, build_encoder
from isosphere.training import _precision as precision
from isosphere.training import _setup as setup
from isosphere.training import load_config, make_fabric, prepare


@pytest.fixture
def capable(monkeypatch):
    """A CPU that has bfloat16, on which a step takes so many seconds in float32, and in bfloat16."""

    def give(float32, bfloat16):
        asked = []

        def time_step(method, views, kind):
            asked.append((kind, len(views[0])))
            return float32 if kind is None else bfloat16

        monkeypatch.setattr(precision, "bf16_is_fast", lambda device: True)
        monkeypatch.setattr(precision, "time_step", time_step)
        monkeypatch.setattr(setup, "measure_precision", precision.measure_precision)
        return asked

    return give


def method_of(name="byol"):
    torch.manual_seed(0)
    dim = {} if name.startswith("vje") else {"dim": 8}
    return build_method(name, build_encoder("small-conv", image_size=16), hidden=8, **dim).train()


def measured(batch=64):
    views = [torch.randn(batch, 3, 16, 16) for _ in range(2)]
    return precision.measure_precision(method_of(), views, make_fabric("cpu", "float32"))


def test_the_clearly_faster_one_is_taken(capable):
    for float32, bfloat16, expected in (
        (1.0, 0.5, "bf16"),
        (1.0, 0.83, "bf16"),
        (1.0, 0.9, "float32"),
        (1.0, 2.4, "float32"),
    ):
        capable(float32, bfloat16)
        taken, words = measured()
        assert taken == expected
        assert words == f"; measured here: bfloat16 is {float32 / bfloat16:.2g} times as fast as float32"


def test_what_is_timed_on_a_cpu_takes_little(capable):
    asked = capable(1e-4, 1e-4)
    measured(batch=64)
    assert max(rows for _, rows in asked) == precision.MOST_ROWS
    asked = capable(0.1, 0.1)
    measured(batch=64)
    assert {rows for _, rows in asked[1:]} == {4}
    assert len(asked) == 9
    asked = capable(2.0, 1.0)
    assert measured(batch=64)[0] == "bf16"
    assert [(kind, rows) for kind, rows in asked] == [
        *[(None, 2), (torch.bfloat16, 2)],
        *[(None, 2), (torch.bfloat16, 2)],
    ]


def test_without_hardware_for_it_nothing_is_measured(monkeypatch, capable):
    asked = capable(1.0, 0.1)
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: False)
    assert measured() == ("float32", "")
    assert asked == []


@pytest.mark.parametrize("name", ["byol", "vje+mmd", "kl-deep"])
def test_measuring_leaves_no_trace(name):
    method = method_of(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    views = [torch.randn(3, 3, 16, 16) for _ in range(2)]
    state = torch.get_rng_state()
    for kind in (None, torch.bfloat16):
        assert precision.time_step(method, views, kind) > 0
    assert all(torch.equal(x.nan_to_num(), before[k].nan_to_num()) for k, x in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert method.training


def test_the_choice_is_recorded_and_a_resumed_run_does_not_ask(tmp_path, capable):
    np.savez(tmp_path / "i.npz", images=np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), np.uint8))
    keys = {"data.source": str(tmp_path / "i.npz"), "train.batch_size": 8, "model.dim": 8, "model.hidden": 8}
    config = load_config(None, [], keys | {"views.recipe": "crops", "train.device": "cpu", "train.epochs": 1})
    asked = capable(1.0, 0.5)
    parts = prepare(config)
    assert parts.config.train.precision == "bf16"
    assert "measured here: bfloat16 is 2 times as fast" in parts.facts["precision"]
    with parts.fabric.autocast():
        assert torch.is_autocast_enabled("cpu")
    count = len(asked)
    assert prepare(config.replace(train={"precision": "float32"})).config.train.precision == "float32"
    encoder = parts.method.encoder
    assert isinstance(encoder, Encoder)
    record = encoder.spec()
    assert prepare(parts.config, record=record).config.train.precision == "bf16"
    assert prepare(config, record=record).config.train.precision == "auto"  # of an earlier version
    assert len(asked) == count > 0
