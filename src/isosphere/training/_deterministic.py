"""The same bits from the same seed on a GPU too: algorithms that add in one order, where torch has them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["NOT_DETERMINISTIC", "WORKSPACE", "deterministic", "fixed_workspace"]

NOT_DETERMINISTIC = "torch.use_deterministic_algorithms(True)"
"""Part of what torch says of an operator that has no deterministic algorithm."""
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The variable by which cuBLAS adds in one order. PyTorch reads it at the first product of a process on a GPU."""


@contextmanager
def fixed_workspace(asked: bool) -> Iterator[None]:
    """With `asked` cuBLAS adds in one order if its first product lies within; a value of the user's stays."""
    before = os.environ.get(WORKSPACE)
    try:
        if asked:
            os.environ.setdefault(WORKSPACE, ":4096:8")
        yield
    finally:
        if asked and before is None:
            os.environ.pop(WORKSPACE, None)


@contextmanager
def deterministic(asked: bool, *, warn_only: bool = False) -> Iterator[None]:
    """``torch.use_deterministic_algorithms``, cuDNN's flags and cuBLAS' workspace as reproducible runs need them;
    afterwards they are as they were. Without `asked` nothing is touched.

    Args:
        warn_only: an operator without a deterministic algorithm warns, instead of raising RuntimeError.
    """
    if not asked:
        yield
        return
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags = cudnn.deterministic, cudnn.benchmark
    with fixed_workspace(True):
        try:
            torch.use_deterministic_algorithms(True, warn_only=warn_only)
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            cudnn.deterministic, cudnn.benchmark = flags
