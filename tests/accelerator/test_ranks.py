"""Two ranks on two accelerators."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.accelerator.place import counted

HERE = Path(__file__).parent
PATIENCE = 900
"""Seconds; quiet, it takes twenty of two cores."""


def on_two_ranks(folder: Path) -> list[tuple[int, str]]:
    """Exit codes and last words of the script on two processes, as torchrun starts them."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29000 + os.getpid() % 2000),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "GROUP_RANK": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *filter(None, sys.path)]),
    }
    command = [sys.executable, str(HERE / "two_ranks.py"), str(folder)]
    started = [
        subprocess.Popen(
            command, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=PATIENCE)[1][-3000:] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@counted
@pytest.mark.timeout(2 * PATIENCE)
def test_ranks_agree_and_no_step_waits(tmp_path, simulated):
    found = on_two_ranks(tmp_path)
    assert [code for code, _ in found] == [0, 0], "\n\n".join(text for _, text in found)
