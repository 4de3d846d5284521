"""A real method in small: convolution, batch norm, dropout, a head, and a loss that spreads and aligns."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isosphere.data import ImageSet, Loader, Views, recipe
from isosphere.methods import Loss, Method
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import Config, Summary, fit, make_fabric, parse_config


class TinyEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))

    def spec(self) -> dict[str, Any]:
        return {"name": "tiny", "image_size": 12}


class TinyMethod(Method):
    """Dropout draws from the global generator; ``turned`` is a state of its own that `after_step` moves."""

    space = "sphere"

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__(TinyEncoder(), nn.Linear(8, 4))
        self.weight = weight
        self.register_buffer("turned", torch.zeros(()))
        self.break_at: int | None = None
        self.steps = 0

    def loss(self, *outputs: Tensor) -> Loss:
        first, second = outputs[0]
        z = torch.cat([first, second])
        invariance = (first - second).square().sum(1).mean()
        spread = (z @ z.T).square().mean()
        self.steps += 1
        if self.break_at == self.steps:
            spread = spread * float("nan")
        total = (1 - self.weight) * invariance + self.weight * spread
        return Loss(total, {"invariance": invariance.detach(), "regulariser": spread.detach()})

    def after_step(self, progress: float) -> None:
        self.turned += progress


class Bench:
    """Everything that `fit` takes, at a size that trains in milliseconds."""

    def __init__(self, path) -> None:
        self.path = path
        generator = torch.Generator().manual_seed(1)
        colours = torch.randint(0, 200, (40, 3, 1, 1), generator=generator)
        grain = torch.randint(0, 56, (40, 3, 16, 16), generator=generator)
        images = (colours + grain).to(torch.uint8)
        self.images = ImageSet(images, np.full(40, -1), [str(i) for i in range(40)])
        self.fabric = make_fabric("cpu", "float32")

    def config(self, **train) -> Config:
        values = {"epochs": 3, "batch_size": 8, "precision": "float32", "device": "cpu", "log_steps": 2}
        values |= {"tensorboard": False, "checkpoint_minutes": 0.0, "seed": 3} | train
        if "minutes" in train:
            values.pop("epochs")
        return parse_config({"train": values, "optim": {"warmup_epochs": 0.5}})

    def run(
        self, name: str, *, config: Config | None = None, method: Any = None, **options
    ) -> SimpleNamespace:
        config = config or self.config()
        if method is None:
            torch.manual_seed(config.train.seed)
            method = TinyMethod()
        folder = RunFolder.create(self.path / name, resume=True)
        folder.write_config(config.as_mapping())
        loader = options.pop("loader", None) or self.loader(config)
        views = options.pop("views", None) or Views(recipe("crops", 12))
        summary = fit(config, folder, method, loader, views, self.fabric, **options)
        return SimpleNamespace(summary=summary, folder=folder, method=method)

    def loader(self, config: Config) -> Loader:
        return Loader(self.images, batch_size=config.train.batch_size or 8, seed=config.train.seed)


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def tiny() -> type[TinyMethod]:
    return TinyMethod


def same_state(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules hold the same bits."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture
def equal_bits():
    return same_state


CLOCKS = {"seconds", "images_per_second"}


@pytest.fixture
def rows_of():
    """The rows of a run's metrics.csv, without what no two runs share."""
    return lambda folder: [
        {k: v for k, v in row.items() if k not in CLOCKS} for row in read_metrics(folder.metrics)
    ]


__all__ = ["Bench", "Summary", "TinyMethod"]
