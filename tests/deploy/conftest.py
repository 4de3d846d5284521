"""A tiny trained run, made once, and folders of pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import isosphere
from isosphere.runs import RunFolder
from isosphere.training import fit, load_config, prepare


def picture(seed: int, side: int = 28) -> Image.Image:
    """A smooth coloured picture, another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def pictures(tmp_path) -> Callable[..., Path]:
    """``pictures(names)``: a folder with one picture a name, seeded by the name's position."""

    def make(names, under: str = "pictures") -> Path:
        folder = tmp_path / under
        for seed, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            picture(seed).save(folder / name)
        return folder

    return make


def train_tiny(path: Path, data: Path, **values: object) -> Path:
    given = {
        "data.source": data,
        "data.image_size": 24,
        "train.epochs": 1,
        "train.batch_size": 8,
        "views.recipe": "crops",
        "model.dim": 12,
        "model.hidden": 16,
        "train.precision": "float32",
        "train.device": "cpu",
        "train.checkpoint_minutes": 0,
        "train.tensorboard": "false",
        **values,
    }
    config = load_config(None, [f"{k}={v}" for k, v in given.items()])
    parts = prepare(config)
    folder = RunFolder.create(path)
    folder.write_config(parts.config.as_mapping())
    folder.write_environment()
    torch.manual_seed(0)
    fit(parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric, facts=parts.identity)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a run: small-conv, views of 24 px on a canvas of 28."""
    root = tmp_path_factory.mktemp("deploy")
    (root / "data").mkdir()
    for seed in range(16):
        picture(seed).save(root / "data" / f"{seed:02d}.png")
    return train_tiny(root / "run", root / "data")


@pytest.fixture
def run(trained) -> isosphere.Run:
    # Without a cache: the folder is the same for all tests, and none is to see what another has computed.
    return isosphere.load(trained, device="cpu", cache=False)
