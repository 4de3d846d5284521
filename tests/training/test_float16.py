"""The loop with a scaled loss, on a CPU: Fabric's scaler, put there by hand (`train.precision=fp16` refuses CPUs)."""

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision

from isosphere.discrepancies import MMD
from isosphere.errors import RunError
from isosphere.kernels import HeatKernel
from isosphere.methods import JEPA
from isosphere.training import Differentiator, Step, StepTimer, explain_precision
from isosphere.training._hardware import precision_of, scaler_of
from tests.training.test_fit import Killed, Killer

INTERVAL = 4


@pytest.fixture
def scaled(bench):
    """The bench in float16, and a way to have a new scaler, as a new process would."""

    def fabric(start=2.0**12):
        scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=INTERVAL)
        bench.fabric = Fabric(
            accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)]
        )
        return bench.fabric

    bench.renew = fabric
    fabric()
    return bench


def saved_scaler(folder):
    return torch.load(folder.checkpoint, weights_only=True)["scaler"]


def test_it_learns_and_says_what_it_computes_in(scaled):
    assert precision_of(scaled.fabric) == "fp16"
    assert "float16 autocast with a scaled loss" in explain_precision("fp16", torch.device("cuda"))
    done = scaled.run("run", config=scaled.config(epochs=4).replace(optim={"clip": 10.0}))
    assert done.summary.steps == 20
    assert all(torch.isfinite(p).all() for p in done.method.parameters())
    assert saved_scaler(done.folder)["scale"] > 2.0**12  # it has grown: no step overflowed


def test_a_step_that_overflows_is_skipped_and_the_run_goes_on(scaled, tiny):
    """A scale far too high at the start: halved until gradients are finite; the loss was finite all along."""
    scaled.renew(start=2.0**40)
    weights = []

    class Spy(tiny):
        def after_step(self, progress):
            super().after_step(progress)
            weights.append(self.head.weight.detach().clone())

    done = scaled.run("run", config=scaled.config(epochs=8).replace(optim={"clip": 1.0}), method=Spy())
    assert done.summary.steps == 40
    assert torch.equal(weights[0], weights[3]), "these steps were skipped"
    assert not torch.equal(weights[3], weights[-1])
    assert saved_scaler(done.folder)["scale"] < 2.0**40


def test_a_resumed_run_ends_with_the_same_bits_and_scale(scaled, equal_bits):
    """Stopped between two growths of the scale: the tracker of the scaler counts as much as its scale."""
    whole = scaled.run("whole")
    scaled.renew()
    with pytest.raises(Killed):
        scaled.run("broken", ui=Killer(7))
    scaled.renew(start=2.0)
    resumed = scaled.run("broken")
    assert equal_bits(whole.method, resumed.method)
    assert saved_scaler(whole.folder) == saved_scaler(resumed.folder)


def test_another_precision_may_go_on(scaled, bench):
    scaled.run("run", config=scaled.config(epochs=1))
    bench.fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    assert scaler_of(bench.fabric) is None
    bench.run("run", config=bench.config(epochs=2))
    scaled.renew()
    assert scaled.run("run", config=scaled.config(epochs=3)).summary.steps == 15


def test_gradients_that_are_never_finite_are_said(scaled, tiny):
    class Broken(tiny):
        def forward(self, views):
            loss = super().forward(views)
            loss.total.register_hook(lambda gradient: gradient * float("inf"))
            return loss

    with pytest.raises(RunError, match="not finite in float16 at step"):
        scaled.run("run", config=scaled.config(epochs=8), method=Broken())


def test_micro_batches_scale_once():
    """The gradient of a piece is that of the whole batch, scaled by the scaler and by nothing else."""
    views = list(torch.randn(2, 12, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    lengths = []
    for pieces in (1, 3):
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
        torch.manual_seed(0)
        encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8))
        method = JEPA(encoder, torch.nn.Linear(8, 4), MMD(HeatKernel(4)), weight=0.5)
        network = fabric.setup(Step(method))
        Differentiator(network, method, fabric, StepTimer(fabric.device), pieces=pieces)(views)
        lengths.append(torch.cat([p.grad.flatten() for p in method.parameters()]).norm().item())
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-2)
