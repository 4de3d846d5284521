"""The passes of a GPU, by Triton's interpreter on a CPU: against the formulas, and against the blocks of PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "triton", reason="Triton's interpreter runs the passes of a GPU; it comes with torch on Linux"
)


def test_the_passes_of_a_gpu_are_the_formulas():
    """In a process of its own: the interpreter is chosen when Triton is imported."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reductions.interpreted"],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("as the formula") == 12
