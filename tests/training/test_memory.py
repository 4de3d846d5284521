"""The memory that a step frees stays for the next one."""

import os
import platform
import subprocess
import sys

import pytest

from isosphere.training import keep_freed_memory

STEPS = """
import resource, sys
from isosphere.training import keep_freed_memory
kept = keep_freed_memory() if "keep" in sys.argv else None
import torch
def step():
    return [torch.ones(2**24) for _ in range(2)][-1].sum().item()  # two tensors of 64 MiB
first = [step() for _ in range(8)][0]  # the heap may grow by another tensor in the first few
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
assert [step() for _ in range(4)] == [first] * 4
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what is set")


def faults(*words: str) -> tuple[str, int]:
    plain = {
        k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD", "THP_"))
    }
    command = [sys.executable, "-c", STEPS, *words]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


@glibc
def test_no_page_is_fetched_twice():
    without, (kept, with_it) = faults()[1], faults("keep")
    assert kept == "True"
    assert with_it < without / 20, (with_it, without)


def test_settings_of_ones_own_stay(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
