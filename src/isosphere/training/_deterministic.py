"""The same bits from the same seed on a GPU too: algorithms that add in one order, where torch has them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["NOT_DETERMINISTIC", "deterministic"]

NOT_DETERMINISTIC = "torch.use_deterministic_algorithms(True)"
"""Part of what torch says of an operator that has no deterministic algorithm."""
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


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
    flags, workspace = (cudnn.deterministic, cudnn.benchmark), os.environ.get(_WORKSPACE)
    try:
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
