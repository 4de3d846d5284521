"""Memory grows with n, not with its square: measured on processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.discrepancies import probe
probe({name!r}, {n}, {dim})
"""


def extra_memory(name: str, n: int, dim: int) -> float:
    """MiB that forward and backward add to a warmed-up process."""
    code = PROBE.format(root=str(REPOSITORY), name=name, n=n, dim=dim)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)


@pytest.mark.parametrize("name", ["mmd-heat", "kl-vmf", "susreg"])
def test_no_gram_matrix_is_kept(name):
    n = 4096  # one float32 Gram matrix: 64 MiB; rows x slices x knots: 256 MiB
    assert extra_memory(name, n, 16) < 24


@pytest.mark.slow
def test_sixty_five_thousand_rows_in_a_gibibyte():
    assert extra_memory("mmd-heat", 65_536, 256) <= 1024
