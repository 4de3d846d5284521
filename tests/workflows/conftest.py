"""Pictures in every form in which people have them, and settings that make a training quick."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

QUICK = {
    "epochs": 1,
    "batch_size": 8,
    "device": "cpu",
    "progress": False,
    "model": {"dim": 16, "hidden": 16},
    "set": {"train.tensorboard": False, "train.precision": "float32"},
}


@pytest.fixture
def quick() -> dict:
    return dict(QUICK)


def pixels(count: int = 24, side: int = 16) -> np.ndarray:
    """uint8 (n, side, side, 3): smooth pictures, every other one reddish."""
    small = np.random.default_rng(0).integers(0, 160, (count, 4, 4, 3), dtype=np.uint8)
    small[::2, :, :, 0] += 90
    return np.stack([np.asarray(Image.fromarray(s).resize((side, side))) for s in small])


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The pictures as files without classes."""
    root = tmp_path_factory.mktemp("pictures")
    for i, picture in enumerate(pixels()):
        Image.fromarray(picture).save(root / f"{i:02d}.png")
    return root
