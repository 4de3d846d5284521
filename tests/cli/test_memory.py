"""Freed memory is kept: the system need not clear the same pages again and again."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from isosphere.cli.memory import keep_freed_memory
keep_freed_memory()
np.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 23)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_a_freed_block_is_used_again():
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(**environment: str) -> int:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=plain | environment, capture_output=True, check=True
        )
        return int(ran.stdout)

    kept, given_back = faults(), faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert kept * 20 < given_back
