"""On which device the tests run: the simulated one, or with ``ISOSPHERE_ACCELERATOR=cuda`` a GPU."""

import os
from types import ModuleType
from typing import Any

import pytest

D = os.environ.get("ISOSPHERE_ACCELERATOR", "simulated")
SIMULATED = D == "simulated"

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
