"""The simulated accelerator is compiled on first use: without a compiler its tests are skipped, and say so."""

import os
import shutil
import sys
from pathlib import Path

import pytest

COMPILERS = ("c++", "g++", "clang++")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one worker: once torch knows of the device, it is there for the rest of the process."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("accelerator"))


@pytest.fixture(autouse=True, scope="session")
def simulated():
    """The package of the simulated accelerator; torch knows of its device from now on."""
    os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)  # where pip has put ninja
    if not shutil.which("ninja") or not any(map(shutil.which, COMPILERS)):
        pytest.skip(
            "the simulated accelerator is compiled by ninja and a C++ compiler, and they are not here"
        )
    from tests.accelerator import simulated

    return simulated
