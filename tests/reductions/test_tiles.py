"""The passes of a GPU, without one: by Triton's interpreter against the formulas, and compiled to machine code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton compiles the passes of a GPU; it comes with torch on Linux")


def said(module: str, **environment: str) -> str:
    """What a script prints, in a process of its own: Triton chooses interpreter and cache when it is imported."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.reductions.{module}"],
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_the_passes_of_a_gpu_are_the_formulas():
    assert said("interpreted", TRITON_INTERPRET="1").count("as the formula") == 16


def test_the_passes_compile_for_a_gpu(tmp_path):
    text = said("compiled", TRITON_CACHE_DIR=str(tmp_path))
    assert text.count("mean compiled") == 4
    assert text.count("log sums compiled") == 2
