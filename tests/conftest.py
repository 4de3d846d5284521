"""Shared fixtures: where the real images are, and quiet deterministic torch."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# How many threads are fastest depends on what else the machine does, and bits depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))

from tests.ranks import Ranks

REPOSITORY = Path(__file__).resolve().parent.parent


def data_folder() -> Path | None:
    """The folder of real images: ``$ISOSPHERE_DATA``, or ``../shared/data`` beside the checkout, or None."""
    candidates = [os.environ.get("ISOSPHERE_DATA"), REPOSITORY.parent / "shared" / "data"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@pytest.fixture
def real_data() -> Path:
    folder = data_folder()
    if folder is None:
        pytest.skip(
            "real images absent: set ISOSPHERE_DATA to the folder that holds cifar10_jpeg.npz and the others"
        )
    return folder


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _precision_by_hardware(monkeypatch):
    """What ``precision: auto`` measures depends on what else the machine does."""
    if (setup := sys.modules.get("isosphere.training._setup")) is not None:
        from isosphere.training import choose_precision

        def chosen(method, views, fabric):
            return choose_precision("auto", fabric.device), ""

        monkeypatch.setattr(setup, "measure_precision", chosen)


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    pool = Ranks()
    yield pool
    pool.close()
