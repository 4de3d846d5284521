"""On which device the tests run: the simulated one, or with ``ISOSPHERE_ACCELERATOR=cuda`` a GPU."""

import os
from types import ModuleType
from typing import Any

import pytest
import torch

D = os.environ.get("ISOSPHERE_ACCELERATOR", "simulated")
SIMULATED = D == "simulated"

THERE = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}


def absent() -> str | None:
    """Why the device that was asked for cannot be had, in words: tests that are skipped for it would look green."""
    if SIMULATED or THERE.get(D, bool)():
        return None
    said = f"ISOSPHERE_ACCELERATOR={D}: "
    if D not in THERE:
        return f"{said}expected cuda or mps, or nothing for the simulated device"
    return f"{said}torch {torch.__version__} finds no such device here"


counted = pytest.mark.skipif(not SIMULATED, reason="counts are those of the simulated accelerator")


def package() -> ModuleType:
    """What records a device, and refuses that it is waited for."""
    if SIMULATED:
        from tests.accelerator import simulated

        return simulated
    from tests.accelerator import real

    return real


def launched(precision: str = "float32", device: str = D) -> Any:
    """A launched Fabric on a device; on the simulated one, which Lightning does not know by name, of its own kind."""
    from isosphere.training import make_fabric

    if device == "simulated":
        from tests.accelerator.simulated.lightning import fabric

        return fabric(precision)
    return make_fabric(device, precision)  # type: ignore[arg-type]
