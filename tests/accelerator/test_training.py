"""Trainings on the accelerator: what they wait for, what they launch, what they leave."""

from pathlib import Path

import pytest
import torch

import isosphere
from isosphere.runs import RunFolder
from isosphere.training import Summary, build, fit, load_config, prepare, untrained
from tests.accelerator.place import D, counted, launched


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
        path: Path, precision: str = "float32", *, device: str = D, resume: bool = False, ui=None, **more
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
        parts = prepare(load_config(None, [f"{key}={value}" for key, value in (settings | more).items()]))
        folder = RunFolder.create(path, resume=resume)
        folder.write_config(parts.config.as_mapping())
        given = parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric
        return fit(*given, observer=parts.observer, facts=parts.identity, ui=ui)

    return run


CONFIGS = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "pieces": {"train.micro_batch": 8},
    "crops": {"views.recipe": "lejepa", "method.name": "lejepa"},
    "teacher": {"method.name": "byol", "optim.name": "lars", "optim.clip": 1.0},
    "two statistics": {"method.name": "vje+mmd", "train.profile": "true", "model.dim": "null"},
    "vit": {"model.encoder": "vit_tiny_patch16_224"},
}


@pytest.mark.parametrize("more", CONFIGS.values(), ids=CONFIGS)
def test_fit(more, tmp_path, run):
    assert run(tmp_path / "run", **more).steps == 3


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


def test_a_run_goes_on_on_another_device(tmp_path, run):
    """Begun on one device and resumed on the other, both ways: as the whole on the CPU, to float32."""
    settings = {"method.name": "byol", "optim.name": "sgd", "optim.learning_rate": 0.05}

    def weights(path: Path, *devices: str) -> dict[str, torch.Tensor]:
        for epochs, device in enumerate(devices, start=1):
            run(path, device=device, resume=epochs > 1, **settings | {"train.epochs": epochs})
        return RunFolder.open(path).read_method() | RunFolder.open(path).read_encoder()[0]

    expected = weights(tmp_path / "whole", "cpu", "cpu")
    for first, second in ((D, "cpu"), ("cpu", D)):
        found = weights(tmp_path / first, first, second)
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
