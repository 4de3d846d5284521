"""What stands for minutes of two cores is rehearsed in seconds: every arm trains, is judged, and leaves no row."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
rival = pytest.mark.skipif(find_spec("lightly") is None, reason="lightly is not installed")


@pytest.mark.parametrize(
    "arms", ["ours,progressive", pytest.param("lightly-simclr,lightly-vicreg,lightly-byol", marks=rival)]
)
def test_every_arm_is_trained_and_judged(arms, tmp_path):
    command = [sys.executable, "-m", "experiments.minutes", "--toy", "--arms", arms, "--threads", "1"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "none.csv"],
        capture_output=True, text=True, cwd=ROOT, timeout=280, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines] == arms.split(",")
    assert all("'knn': '" in line and "'images': 0" not in line for line in lines)
    assert not (tmp_path / "none.csv").exists()
