"""Optimiser groups, precision, meter, timer, lines on the screen."""

import math
import time
from typing import Literal

import pytest
import torch
from rich.console import Console
from torch import nn

from isosphere.errors import RunError, UsageError
from isosphere.methods import build_method
from isosphere.models import build_encoder, memory_format
from isosphere.training import (
    ConsoleReporter,
    StepTimer,
    bf16_is_fast,
    choose_precision,
    duration,
    explain_precision,
    make_fabric,
)
from isosphere.training._config import OptimConfig
from isosphere.training._meters import WARM_UP, Meter
from isosphere.training._optimizer import (
    build_optimizer,
    decay_groups,
    load_optimizer,
    set_learning_rate,
)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.layer_norm = nn.LayerNorm([4, 2, 2])
        self.linear = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_decay_falls_on_multiplying_weights_alone():
    module = Mixed()
    names = {id(p): name for name, p in module.named_parameters()}
    groups = {
        group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in decay_groups(module, 0.1)
    }
    assert groups[0.1] == {"convolution.weight", "linear.weight"}
    assert groups[0.0] == {
        "convolution.bias",
        "norm.weight",
        "norm.bias",
        "layer_norm.weight",
        "layer_norm.bias",
        "linear.bias",
        "scale",
        "cls_token",
        "pos_embed",
    }


def test_adamw_step_against_its_formula():
    """First step: decayed by 1 - lr * wd, then moved by lr * sign(gradient)."""
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = build_optimizer(layer, OptimConfig(learning_rate=0.1, weight_decay=0.5))
    layer(torch.tensor([[2.0, -3.0]])).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.weight, before[0] * 0.95 - 0.1 * torch.tensor([[1.0, -1.0]]), atol=1e-6)
    assert torch.allclose(layer.bias, before[1] - 0.1, atol=1e-6)


def test_lars_against_its_formula():
    """Two steps with momentum: the weight's is scaled by 0.001 |w|/(|g| + wd |w|), the bias's is SGD's."""
    layer = nn.Linear(3, 2)
    w, b = (p.detach().clone() for p in layer.parameters())
    config = OptimConfig(name="lars", learning_rate=0.4, weight_decay=0.1, momentum=0.8)
    optimizer = build_optimizer(layer, config)
    x = torch.tensor([[1.0, -2.0, 0.5]])
    velocity = [torch.zeros_like(w), torch.zeros_like(b)]
    for _ in range(2):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        gradient, slope = layer.weight.grad.clone(), layer.bias.grad.clone()
        optimizer.step()
        trust = 0.001 * w.norm() / (gradient.norm() + 0.1 * w.norm())
        velocity[0] = 0.8 * velocity[0] + trust * (gradient + 0.1 * w)
        velocity[1] = 0.8 * velocity[1] + slope
        w, b = w - 0.4 * velocity[0], b - 0.4 * velocity[1]
        torch.testing.assert_close(layer.weight.detach(), w)
        torch.testing.assert_close(layer.bias.detach(), b)


def test_lars_adapts_weights_also_without_decay_and_never_norms_and_biases():
    module = Mixed()
    optimizer = build_optimizer(module, OptimConfig(name="lars", weight_decay=0.0))
    adapted, free = optimizer.param_groups
    assert adapted["always_adapt"]
    assert not free["always_adapt"]
    assert free["weight_decay"] == 0
    assert all(p.ndim > 1 for p in adapted["params"])
    assert {id(p) for p in free["params"]} >= {id(p) for p in module.norm.parameters()}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_sgd_against_its_formula():
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    config = OptimConfig(name="sgd", learning_rate=0.1, weight_decay=0.5, momentum=0.0)
    optimizer = build_optimizer(layer, config)
    layer(torch.tensor([[2.0, -3.0]])).sum().backward()
    optimizer.step()
    moved = before[0] - 0.1 * (torch.tensor([[2.0, -3.0]]) + 0.5 * before[0])
    torch.testing.assert_close(layer.weight.detach(), moved)
    torch.testing.assert_close(layer.bias.detach(), before[1] - 0.1)


def test_frozen_teachers_are_not_stepped():
    method = build_method("byol", build_encoder("small-conv", image_size=16), dim=8, hidden=8)
    for name in ("adamw", "lars", "sgd"):
        groups = build_optimizer(method, OptimConfig(name=name)).param_groups
        stepped = {id(p) for group in groups for p in group["params"]}
        assert stepped.isdisjoint(id(p) for p in method.teacher.parameters())
        assert stepped == {id(p) for p in method.parameters() if p.requires_grad}


@pytest.mark.parametrize(("before", "after", "place"), [("fp16", "bf16", "meta"), ("bf16", "fp16", "cpu")])
def test_counters_of_steps_lie_where_the_optimiser_of_now_has_them(before, after, place):
    """A fused one on the device, another on the CPU, whichever has saved them; no GPU is needed to see it."""
    layer = nn.Linear(2, 2)
    old, new = (build_optimizer(layer, OptimConfig(), scaled=name == "fp16") for name in (before, after))
    layer(torch.ones(1, 2)).sum().backward()
    old.step()
    for group in new.param_groups:
        group["params"] = [nn.Parameter(p.to("meta")) for p in group["params"]]
    load_optimizer(new, old.state_dict())
    assert {state["step"].device.type for state in new.state.values()} == {place}
    assert {bool(group["fused"]) for group in new.param_groups} == {after == "bf16"}


def test_restored_moments_keep_the_settings_of_now_and_other_optimisers_are_refused():
    layer = nn.Linear(2, 1)
    old = build_optimizer(layer, OptimConfig(name="sgd", weight_decay=0.5, momentum=0.5))
    layer(torch.ones(1, 2)).sum().backward()
    old.step()
    new = build_optimizer(layer, OptimConfig(name="sgd", weight_decay=0.1, momentum=0.7))
    load_optimizer(new, old.state_dict())
    assert [g["weight_decay"] for g in new.param_groups] == [0.1, 0.0]
    assert [g["momentum"] for g in new.param_groups] == [0.7, 0.7]
    torch.testing.assert_close(
        new.state[layer.weight]["momentum_buffer"], old.state[layer.weight]["momentum_buffer"]
    )
    for name in ("adamw", "lars"):
        with pytest.raises(ValueError, match=r"give the optim\.name"):
            load_optimizer(build_optimizer(layer, OptimConfig(name=name)), old.state_dict())


def test_precision_is_chosen_by_hardware(monkeypatch):
    cpu = torch.device("cpu")
    for capable, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capable: {"amx_bf16": c}, raising=False)
        assert choose_precision("auto", cpu) == expected
        assert choose_precision("float32", cpu) == "float32"
        assert choose_precision("bf16", cpu) == "bf16"
    assert "emulates" in explain_precision("bf16", cpu)
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # older torch: by its private probes
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    for capable in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda c=capable: c)
        assert bf16_is_fast(cpu) is capable
    assert choose_precision("auto", torch.device("mps")) == "float32"
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    for elsewhere in (cpu, torch.device("mps")):
        with pytest.raises(UsageError, match=r'fp16 is for CUDA GPUs.*"precision": "bf16"'):
            choose_precision("fp16", elsewhere)
    with pytest.raises(UsageError, match="fp16 is for CUDA"):
        make_fabric("cpu", "fp16")
    assert memory_format(cpu) is torch.channels_last


def test_fabric_computes_in_the_chosen_precision(capfd):
    cases: list[tuple[Literal["bf16", "float32"], torch.dtype]]
    cases = [("bf16", torch.bfloat16), ("float32", torch.float32)]
    for setting, dtype in cases:
        fabric = make_fabric("cpu", setting)
        with fabric.autocast():
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("every", [1, 3])
def test_meter_means_and_sums(every):
    sums: dict[str, float] = {}
    meter = Meter(sums, every=every)
    for k in range(4):
        meter.add(k + 1, 1, torch.tensor(float(k)), {"part": torch.tensor([1.0, 3.0])})
    meter.flush()
    assert sums == {"total": 6.0, "part": 8.0, "count": 4.0}
    assert meter.last == {"total": 3.0, "part": 2.0}
    assert meter.take() == {"total": 1.5, "part": 2.0}
    assert meter.take() == {}


def test_meter_names_the_first_step_that_is_not_finite():
    meter = Meter({}, every=10)
    for step, value in enumerate((1.0, math.inf, math.nan), start=1):
        meter.add(step, 1, torch.tensor(value), {"regulariser": torch.tensor(value)})
    with pytest.raises(RunError, match=r"step 2 \(epoch 1\): total inf, regulariser inf"):
        meter.flush()


def test_timer_tells_network_and_loss_apart():
    """A network and a loss that wait for known times, forwards and backwards."""

    class Wait(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, forward, backward):
            time.sleep(forward)
            ctx.backward_time = backward
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients):
            time.sleep(ctx.backward_time)
            return gradients[0], None, None

    class Network(nn.Module):
        def forward(self, x):
            return Wait.apply(x, 0.02, 0.04)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Network()

        def forward(self, x):
            return self.inner(x)

    encoder, head = Encoder(), Network()
    timer = StepTimer(torch.device("cpu"), detailed=True, networks=[encoder, head])
    weight = torch.ones(3, requires_grad=True)
    for _ in timer.each("data", range(WARM_UP + 10)):
        with timer("views"):
            time.sleep(0.01)
        with timer.forward():
            loss = Wait.apply(head(encoder(weight * 1.0)), 0.015, 0.025).sum()
        with timer.backward():
            loss.backward()
        with timer("optimiser"):
            time.sleep(0.005)
        time.sleep(0.005)
    shares, seconds = timer.shares(), timer.step_seconds()
    assert shares is not None
    assert seconds is not None
    assert timer.steps == 10
    milliseconds = {name: 1e3 * share * seconds for name, share in shares.items()}
    expected = {"views": 10, "network": 120, "loss": 40, "optimiser": 5, "other": 5}
    for name, least in expected.items():
        assert least <= milliseconds[name] <= 1.5 * least + 40, (name, milliseconds)


def test_timer_before_the_warm_up_says_nothing():
    timer = StepTimer(torch.device("cpu"))
    for _ in timer.each("data", range(WARM_UP)):
        pass
    assert timer.shares() is None
    assert timer.step_seconds() is None


def test_plain_lines_are_spaced_out_and_all_go_to_the_log(tmp_path, capsys):
    reporter = ConsoleReporter(Console(), tmp_path / "train.log", quiet=1000)
    for epoch in range(5):
        reporter.step(epoch / 5, "never shown")
        reporter.row(f"epoch {epoch}")
    reporter.say("[b]done[/b]")
    reporter.close()
    out = capsys.readouterr().out
    assert out.splitlines() == ["epoch 0", "[b]done[/b]", "epoch 4"]
    assert [line.split("  ", 1)[1] for line in (tmp_path / "train.log").read_text().splitlines()] == [
        *(f"epoch {k}" for k in range(5)),
        "[b]done[/b]",
    ]


def test_bar_on_a_terminal_is_taken_down():
    console = Console(force_terminal=True, width=100, record=True)
    reporter = ConsoleReporter(console)
    reporter.step(0.5, "epoch 1/2  total 0.5")
    reporter.row("epoch 1/2")
    reporter.close()
    assert reporter._bar is None
    reporter.step(1.0, "again")  # a closed reporter can start another bar
    reporter.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (119.7, "2 min"),
        (61.2, "1 min 1 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_backbone_has_a_rate_of_its_own_and_its_layers_theirs():
    method = build_method("byol", build_encoder("small-conv", image_size=16), dim=8, hidden=8)
    names = {id(p): name for name, p in method.named_parameters()}
    assert len(build_optimizer(method, OptimConfig(backbone_rate=None)).param_groups) == 2
    config = OptimConfig(learning_rate=1e-3, backbone_rate=1e-4, layer_decay=0.5)
    optimizer = build_optimizer(method, config)
    set_learning_rate(optimizer.param_groups, 1e-3, 1e-3)
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {
        names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert rates.keys() == {name for name, p in method.named_parameters() if p.requires_grad}
    for layer in range(5):
        assert rates[f"encoder.backbone.layers.{layer}.0.weight"] == pytest.approx(1e-4 * 0.5 ** (4 - layer))
        assert rates[f"encoder.backbone.layers.{layer}.1.bias"] == pytest.approx(1e-4 * 0.5 ** (4 - layer))
    assert {rate for name, rate in rates.items() if not name.startswith("encoder.")} == {1e-3}
    assert {name: decay > 0 for name, decay in decays.items()} == {
        name: p.ndim > 1 for name, p in method.named_parameters() if p.requires_grad
    }
    set_learning_rate(optimizer.param_groups, 1e-3, 0.0)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0, 1e-3}


def test_a_layer_learns_as_timm_would_have_it():
    from timm.optim import param_groups_layer_decay

    encoder = build_encoder("resnet10t", image_size=32)
    method = build_method("kl-vmf", encoder, dim=8, hidden=8)
    optimizer = build_optimizer(method, OptimConfig(learning_rate=1e-3, layer_decay=0.7))
    ours = {id(p): group.get("lr_scale", 1) for group in optimizer.param_groups for p in group["params"]}
    for group in param_groups_layer_decay(encoder.backbone, layer_decay=0.7):
        assert all(ours[id(p)] == pytest.approx(group["lr_scale"]) for p in group["params"])
