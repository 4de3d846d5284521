"""Statistics do not follow the network's precision."""

__all__ = ["full_precision"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast off, and float32 matrix products to full float32 (no TF32, no bf16), inside the block.

    A compiler sees the first alone: the products of the statistics are inside operators, which run eagerly.
    """
    if torch.compiler.is_compiling():
        with torch.autocast(device.type, enabled=False):
            yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
