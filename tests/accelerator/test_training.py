"""Trainings on the accelerator: what they wait for, what they launch, what they leave."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

import isosphere
from isosphere.data import Source
from isosphere.methods import DISTILLATION
from isosphere.runs import RunFolder
from isosphere.sphere import normalize
from isosphere.training import Callback, Progress, Summary, build, fit, load_config, prepare, untrained
from isosphere.training._generators import random_state, restore_random_state
from isosphere.training._operators import LaunchCounter
from tests.accelerator.place import D, counted, launched

KEPT = Path(__file__).parent.parent / "kept_run"


class Steps:
    """What fit reports to: it marks what had been recorded at the end of each step."""

    def __init__(self, seen) -> None:
        self.seen = seen
        self.marks: list[tuple[int, int]] = []

    def say(self, *args: object, **more: object) -> None: ...

    def row(self, *args: object) -> None: ...

    def close(self) -> None: ...

    def step(self, *args: object) -> None:
        self.marks.append((len(self.seen.waits), self.seen.launches))


@pytest.fixture
def run(monkeypatch, simulated):
    def run(
        path: Path,
        precision: str = "float32",
        *,
        device: str = D,
        resume: bool = False,
        ui=None,
        callbacks=(),
        **more,
    ) -> Summary:
        settings = {
            "data.source": "textures:wood?count=60&test=12&size=24",
            "data.image_size": 16,
            "model.hidden": 32,
            "model.dim": 16,
            "train.epochs": 1,
            "train.batch_size": 16,
            "train.precision": precision,
        }
        made = launched(precision, device)
        monkeypatch.setattr("isosphere.training._setup.make_fabric", lambda *a, **k: made)
        config = load_config(None, [f"{key}={value}" for key, value in (settings | more).items()])
        parts = prepare(config, teach=taught if config.method.name == DISTILLATION else None)
        folder = RunFolder.create(path, resume=resume)
        folder.write_config(parts.config.as_mapping())
        given = parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric
        shown = {"observer": parts.observer, "facts": parts.identity, "targets": parts.targets}
        return fit(*given, **shown, ui=ui, callbacks=callbacks)

    return run


def taught(source: Source, dim: int) -> torch.Tensor:
    """What a teacher says of the images: something."""
    return normalize(torch.randn(len(source), dim, generator=torch.Generator().manual_seed(0)))


class Unwaiting:
    """What fit reports to: from the end of the second step of an epoch of seven to the end of its sixth, nothing waits
    for the device; the last of so many steps in all.
    """

    def __init__(self, simulated, steps: int) -> None:
        self.simulated, self.left, self.block = simulated, steps, ExitStack()

    def say(self, *args: object, **more: object) -> None: ...

    def row(self, *args: object) -> None: ...

    def close(self) -> None:
        self.block.close()

    def step(self, *args: object) -> None:
        self.left -= 1
        if self.left % 7 == 5:
            self.block.enter_context(self.simulated.no_waiting())
        if self.left % 7 == 1:
            self.block.close()


SGD = {"optim.name": "sgd", "optim.learning_rate": 0.05}
"""By its steps a wrong length of the gradient shows; AdamW's and LARS's are nearly the same for any."""

CONFIGS = {
    "float32": SGD,
    "adamw": {},
    "bf16": {"precision": "bf16", **SGD},
    "fp16": {"precision": "fp16", "optim.clip": 0.05, **SGD},
    "micro-batches": {"train.micro_batch": 8, **SGD},
    "crops": {"views.recipe": "lejepa", "method.name": "lejepa", **SGD},
    "clipped": {"optim.clip": 0.05, **SGD},
    "teacher": {"method.name": "byol", "optim.name": "lars"},
    "targets": {"method.distill": "small-conv", **SGD},
    "two statistics": {"method.name": "vje+mmd", "model.dim": "null", **SGD},
    "given weights": {"model.init": KEPT, "train.load_best": "false", "optim.layer_decay": 0.7, **SGD},
    "squares": {"data.crop_from": "square", **SGD},
    "streamed": {"data.workers": 1, **SGD},
    "vit": {"model.encoder": "vit_tiny_patch16_224", **SGD},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_is_that_of_the_cpu_and_its_steps_wait_for_nothing(
    name, tmp_path, run, simulated, monkeypatch
):
    """Seven steps, or with given weights as many of the head and as many of all: beside the way that they have moved
    on the CPU, parameters end where they end there.
    """
    settings: dict = {"data.source": "textures:wood?count=120&test=12&size=24", **CONFIGS[name]}
    settings["train.epochs"] = 2 if name == "given weights" else 1
    if name == "streamed":
        monkeypatch.setattr("isosphere.training._storage.memory_room", lambda fabric: 0)
    # Its scaler looks at every step whether gradients are finite.
    ui = None if name == "fp16" else Unwaiting(simulated, 7 * settings["train.epochs"])
    assert run(tmp_path / "there", ui=ui, **settings).steps == 7 * settings["train.epochs"]
    on_cpu = settings | {"precision": "float32", "device": "cpu"}
    run(tmp_path / "here", **on_cpu)
    run(tmp_path / "start", **on_cpu | {"train.epochs": 0})
    there, here, start = (parameters(tmp_path / place) for place in ("there", "here", "start"))
    moved = (here - start).norm()
    assert moved > 0
    assert (there - here).norm() < {"bf16": 0.5, "fp16": 0.2}.get(name, 0.02) * moved


@counted
def test_a_step_in_float16_waits_once(tmp_path, run, simulated):
    with simulated.record() as seen:
        ui = Steps(seen)
        run(tmp_path / "run", "fp16", ui=ui, **{"optim.clip": 0.05, "train.monitor": "false"})
    assert ui.marks[1][0] - ui.marks[0][0] == 1


def test_a_training_by_the_clock_waits_for_nothing(tmp_path, run, simulated):
    """Nor do callbacks."""

    class Until(Callback):
        def on_step(self, progress: Progress) -> bool:
            return progress.step == 7

    settings = {"data.source": "textures:wood?count=120&test=12&size=24"}
    ui, clock = Unwaiting(simulated, 7), {"train.epochs": "null", "train.minutes": 5}
    assert run(tmp_path / "run", ui=ui, callbacks=Until(), **settings | clock).steps == 7


def weights(path: Path) -> dict[str, torch.Tensor]:
    return RunFolder.open(path).read_method() | RunFolder.open(path).read_encoder()[0]


def parameters(path: Path) -> torch.Tensor:
    """All weights but the statistics of batch norm, as one vector."""
    found = sorted(weights(path).items())
    return torch.cat([x.flatten() for name, x in found if "running" not in name and "tracked" not in name])


def test_resume(tmp_path, run):
    run(tmp_path / "run")
    assert run(tmp_path / "run", resume=True, **{"train.epochs": 2}).steps == 6


@counted
def test_a_profile_counts_what_the_device_was_asked(tmp_path, run, simulated):
    with simulated.record() as seen:
        ui = Steps(seen)
        summary = run(tmp_path / "run", ui=ui, **{"train.epochs": 2, "train.profile": "true"})
    assert summary.launches is not None
    counted = ui.marks[4][1] - ui.marks[3][1]
    assert sum(summary.launches.values()) == pytest.approx(counted, rel=0.1)
    assert summary.waits == 0


WAITING = {
    "a number": lambda x: x.sum().item(),
    "what is not zero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 1],
    "into a mask": lambda x: torch.index_put(x, (x > 0,), torch.ones(2, device=D)),
    "counts": lambda x: x.long().bincount(),
    "by a list": lambda x: x[torch.tensor([0, 2])],
    "eigenvalues": lambda x: torch.linalg.eigh(x.outer(x)),
    "kinds": lambda x: x.unique(),
    "equality": lambda x: torch.equal(x, x),
    "to the host": lambda x: x.cpu(),
    "from the host": lambda x: torch.ones(3).to(D),
    "into what is there": lambda x: x.copy_(torch.ones(3)),
}
FREE = {
    "a sum": lambda x: x.sum(),
    "a copy there": lambda x: x.clone(),
    "a number into a mask": lambda x: torch.index_put(x, (x > 0,), torch.ones((), device=D)),
    "from the host, later": lambda x: torch.ones(3).to(D, non_blocking=True),
}


@counted
@pytest.mark.parametrize("name", [*WAITING, *FREE])
def test_a_profile_counts_each_kind_of_waiting(name, simulated):
    counter, x = LaunchCounter(lambda: "loss", torch.device(D)), torch.arange(3.0, device=D)
    with counter:
        (WAITING | FREE)[name](x)
    assert counter.waits.total() == (name in WAITING)


@counted
def test_a_profile_counts_what_is_waited_for(tmp_path, run):
    """The scaler of float16 looks at every step whether gradients are finite."""
    settings = {"optim.clip": 0.05, "train.monitor": "false", "train.epochs": 2, "train.profile": "true"}
    assert run(tmp_path / "run", "fp16", **settings).waits == 1


def test_a_run_goes_on_on_another_device(tmp_path, run):
    """Begun on one device and resumed on the other, both ways: as the whole on the CPU, to float32."""
    settings = {"method.name": "byol", "optim.name": "sgd", "optim.learning_rate": 0.05}

    def trained(path: Path, *devices: str) -> dict[str, torch.Tensor]:
        for epochs, device in enumerate(devices, start=1):
            run(path, device=device, resume=epochs > 1, **settings | {"train.epochs": epochs})
        return weights(path)

    expected = trained(tmp_path / "whole", "cpu", "cpu")
    for first, second in ((D, "cpu"), ("cpu", D)):
        found = trained(tmp_path / first, first, second)
        assert found.keys() == expected.keys()
        for name, x in found.items():
            torch.testing.assert_close(x, expected[name], rtol=1e-2, atol=1e-3, msg=name)


def test_building_and_loading_leave_the_generator_of_the_device_alone(tmp_path, run):
    run(tmp_path / "run")
    config = load_config(None, ["data.image_size=32", "model.encoder=small-conv"])
    before = torch.get_device_module(D).get_rng_state()
    for make in (
        lambda: build(config),
        lambda: untrained(config),
        lambda: isosphere.load(tmp_path / "run", device="cpu"),
    ):
        make()
        assert torch.equal(torch.get_device_module(D).get_rng_state(), before)


def test_the_generator_of_the_device_is_put_back(simulated):
    """A checkpoint holds it, and a resumed run goes on with it."""
    state = random_state()
    assert D.partition(":")[0] in state
    drawn = torch.rand(8, device=D).cpu()
    assert not torch.equal(torch.rand(8, device=D).cpu(), drawn)
    restore_random_state(state)
    assert torch.equal(torch.rand(8, device=D).cpu(), drawn)
