"""The simulated accelerator is compiled on first use: without a compiler its tests are skipped, and say so.

With ``ISOSPHERE_ACCELERATOR=cuda`` they run on a GPU (``make gpu``), and nothing runs where there is none.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.accelerator.place import SIMULATED, absent, package

COMPILERS = ("c++", "g++", "clang++")


def pytest_configure() -> None:
    """End with pytest's code of wrong usage where the device that was asked for is absent."""
    if said := absent():
        raise pytest.UsageError(said)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one worker: once torch knows of the device, it is there for the rest of the process."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("accelerator"))


def compiler_missing() -> bool:
    """Whether the simulated accelerator cannot be compiled here."""
    if (own := str(Path(sys.executable).parent)) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] += os.pathsep + own  # where pip has put ninja
    return not shutil.which("ninja") or not any(map(shutil.which, COMPILERS))


@pytest.fixture(autouse=True, scope="session")
def simulated():
    """The package of the simulated accelerator, of which torch knows from now on; or its counterpart of a real one."""
    if not SIMULATED:
        torch.backends.cudnn.allow_tf32 = False  # else convolutions are not those of the CPU
        return package()
    if compiler_missing():
        pytest.skip(
            "the simulated accelerator is compiled by ninja and a C++ compiler, and they are not here"
        )
    return package()
